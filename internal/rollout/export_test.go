package rollout

// CheckNames are the checks in the order in which they are asked.
func CheckNames() []string {
	names := make([]string, 0, len(checks))
	for _, check := range checks {
		names = append(names, check.name)
	}
	return names
}
