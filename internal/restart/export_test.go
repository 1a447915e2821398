package restart

import (
	"time"
)

// CheckNames are the checks in the order in which they are asked.
func CheckNames() []string {
	var names []string
	for _, check := range checks() {
		names = append(names, check.name)
	}
	return names
}

// WindowsAt is the stretch of a policy's windows in which a moment lies.
func WindowsAt(policy *Policy, now time.Time) Stretch { return policy.windows.stretchAt(now) }
