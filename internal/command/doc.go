// Package command is the command line: the manager, which runs in the cluster, and plan, status and
// stop, which people run against it.
package command
