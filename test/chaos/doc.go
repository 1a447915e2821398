// Package chaos heals a cluster while everything around it breaks.
//
// Every few hundred milliseconds something happens to a real cluster that Fullmesh brings into the
// mesh: replicas are killed, istiod and the API server go and come back, answers are refused, lost
// or late, and users roll out, scale, opt out and relabel. A witness reads every single write from
// etcd and holds Fullmesh to its promises at each of them. When it calms down, everything that can be
// in the mesh must be.
//
// What happens comes from one seed, which is printed first and after a failure:
//
//	go test ./test/chaos -args -seed=7 -duration=5m -workloads=200
package chaos
