// Package worlds runs properties in random clusters.
package worlds

import (
	"flag"
	"fmt"
	"testing"
)

// Run runs a package's tests, the properties in the same random clusters every time unless -rapid.seed
// says otherwise: a test run says something of a change, and not of luck. It returns the exit code.
func Run(m *testing.M) int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.seed" })
	if !chosen {
		if err := flag.Set("rapid.seed", "1"); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	return m.Run()
}
