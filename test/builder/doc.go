// Package builder makes API objects for tests, so a test reads like the situation that it is
// about:
//
//	builder.Deployment("shop", "cart").Replicas(3).Unavailable(0).Surge(1).Build()
//	builder.Pod("shop", "cart-1").OwnedBy(cart).Injected("default").Ready(noon).Build()
//
// What is built is complete enough for a real API server to take it.
package builder
