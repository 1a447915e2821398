package controllers

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/fullmesh/fullmesh/internal/inventory"
)

// quotaRefusal is how the API server words that a quota has no room, with the resources that are
// short (k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go).
var quotaRefusal = regexp.MustCompile(`exceeded quota: [^,]+, requested: (\S+), used: (\S+), limited: (\S+)`)

// fitsInTurn reports whether a Pod for which a quota has no room would fit when an old Pod of the
// workload has gone. What cannot be read does not fit.
func fitsInTurn(object *inventory.Object, refusal string) bool {
	found := quotaRefusal.FindStringSubmatch(refusal)
	if found == nil {
		return false
	}
	requested, used, limited := amounts(found[1]), amounts(found[2]), amounts(found[3])
	freed := asks(&object.Template.Spec)
	for name, ask := range requested {
		limit, known := limited[name]
		if !known {
			return false
		}
		free := freed[name]
		if counted := used[name]; free.Cmp(counted) > 0 {
			free = counted // the old Pod does not count in this quota
		}
		ask.Add(used[name])
		ask.Sub(free)
		if ask.Cmp(limit) > 0 {
			return false
		}
	}
	return len(requested) > 0
}

// amounts reads "pods=1,requests.cpu=110m". What cannot be read is left out.
func amounts(text string) map[string]resource.Quantity {
	read := map[string]resource.Quantity{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(pair, "=")
		if quantity, err := resource.ParseQuantity(value); err == nil {
			read[name] = quantity
		}
	}
	return read
}

// asks is what a Pod of the spec counts for in quotas, by the names that quotas use. What its
// init containers or the cluster's defaults add is left out, so rather too little is freed.
func asks(spec *corev1.PodSpec) map[string]resource.Quantity {
	sums := map[string]resource.Quantity{
		"pods":       resource.MustParse("1"),
		"count/pods": resource.MustParse("1"),
	}
	add := func(name string, quantity resource.Quantity) {
		sum := sums[name]
		sum.Add(quantity)
		sums[name] = sum
	}
	for i := range spec.Containers {
		for name, quantity := range spec.Containers[i].Resources.Requests {
			add(string(name), quantity)
			add("requests."+string(name), quantity)
		}
		for name, quantity := range spec.Containers[i].Resources.Limits {
			add("limits."+string(name), quantity)
		}
	}
	return sums
}
