// Package command is the command line: the manager, which runs in the cluster, and plan,
// status and stop, which people run against it; plan also on a dump of one.
package command
