// Fullmesh brings namespaces with Istio's sidecar injection to full mesh. See README.md.
package main

import (
	"os"
	_ "time/tzdata" // so that the zones of windows do not depend on the image

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/fullmesh/fullmesh/internal/command"
)

// version is set when the binary is built.
var version = "development"

func main() {
	os.Exit(command.Run(ctrl.SetupSignalHandler(), version, os.Args[1:], os.Stdout, os.Stderr))
}
