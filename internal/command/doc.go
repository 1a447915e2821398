// Package command is the command line: the manager, which runs in the cluster, and plan,
// explain, status and stop, which people run against it; the first two also on a dump of one.
package command
