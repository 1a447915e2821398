package restart_test

import (
	"os"
	"testing"

	"github.com/fullmesh/fullmesh/test/worlds"
)

func TestMain(m *testing.M) { os.Exit(worlds.Run(m)) }
