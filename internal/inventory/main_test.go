package inventory_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain has the properties tried in the same random clusters every time, unless -rapid.seed says
// otherwise: a test run says something of a change, and not of luck. make test-worlds tries others.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.seed" })
	if !chosen {
		if err := flag.Set("rapid.seed", "1"); err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}
