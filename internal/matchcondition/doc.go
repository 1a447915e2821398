// Package matchcondition evaluates the matchConditions of injection webhooks with the API server's
// own library, in the way in which the API server does it when a Pod is created. It stands by
// itself because that library brings metrics and a log with it; internal/mesh is handed the
// function.
//
// Of the Pod that would be created only the template is known, and of the request neither who
// makes it nor what it may do. A condition that looks at more than is known is not evaluated: the
// answer says what was assumed.
package matchcondition
