package restart_test

import (
	"fmt"
	"testing"

	"github.com/fullmesh/fullmesh/internal/restart"
	"github.com/fullmesh/fullmesh/test/builder"
)

// BenchmarkDecide is a pass over 2,000 workloads in 100 namespaces, of which none, some and all need
// something.
func BenchmarkDecide(b *testing.B) {
	const namespaces, workloads = 100, 20
	for _, open := range []int{0, 1, workloads} {
		b.Run(fmt.Sprintf("%d of %d open", namespaces*open, namespaces*workloads), func(b *testing.B) {
			s := newScene(builder.Enforcing("mesh"))
			for n := range namespaces {
				name := fmt.Sprintf("n%d", n)
				s.with(meshed(name))
				for w := range workloads {
					pod := injected
					if w < open {
						pod = uninjected
					}
					s.with(runs(deployment(name, fmt.Sprintf("w%d", w)).Build(), pod))
				}
			}
			in := s.input()
			b.ReportAllocs()
			for b.Loop() {
				restart.Decide(in)
			}
		})
	}
}
