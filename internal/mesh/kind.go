package mesh

import "github.com/fullmesh/fullmesh/api/v1alpha1"

// Kind is what is known of a kind of workloads. What is special about one is a field here, and never a comparison with
// its name elsewhere. How its objects are read stands in package inventory.
type Kind struct {
	Group, Version, Name, Resource string
	// ShortNames are what people may type in the place of the name.
	ShortNames []string
	// Optional says that a cluster has the kind only where somebody has installed its definition.
	Optional bool

	// Makes is the kind that stands between the workload and its Pods; empty where it makes them itself.
	Makes string
	// PodLabels are the labels that its controller adds to those of the template, with what stands for their values in
	// a dry run; %s is the workload's name.
	PodLabels map[string]string

	// Method is how it is restarted as a rule; empty where it never is.
	Method v1alpha1.RestartMethod
	// ByHand is the command by which a person restarts one, of its name and namespace; empty where there is none.
	ByHand string

	// RunsToCompletion says that its Pods end by themselves, and are not restarted.
	RunsToCompletion bool
	// ByOrdinal says that its Pods have identities and are replaced one after the other.
	ByOrdinal bool
	// OnEveryNode says that its Pods stay on their nodes, cordoned or not.
	OnEveryNode bool
	// HasDeadline says that its controller says by itself when a rollout makes no progress.
	HasDeadline bool
	// ByShare says that it is not worth a rollout where few of its Pods must be replaced. Others are rolled out only
	// where all must.
	ByShare bool
}

// jobPodLabels are those of the Pods of a Job, also of one that a CronJob makes.
var jobPodLabels = map[string]string{
	"batch.kubernetes.io/controller-uid": "dryrun", "batch.kubernetes.io/job-name": "%s", "controller-uid": "dryrun", "job-name": "%s",
}

// Kinds are those whose objects are read.
var Kinds = []Kind{
	{
		Group: "apps", Version: "v1", Name: "Deployment", Resource: "deployments", ShortNames: []string{"deploy"},
		Makes: "ReplicaSet", PodLabels: map[string]string{"pod-template-hash": "dryrun"},
		Method: v1alpha1.MethodRolloutRestart, ByHand: "kubectl rollout restart deployment/%s -n %s", HasDeadline: true, ByShare: true,
	},
	{
		Group: "apps", Version: "v1", Name: "StatefulSet", Resource: "statefulsets", ShortNames: []string{"sts"},
		PodLabels: map[string]string{"controller-revision-hash": "dryrun", "statefulset.kubernetes.io/pod-name": "%s-0",
			"apps.kubernetes.io/pod-index": "0"},
		Method: v1alpha1.MethodRolloutRestart, ByHand: "kubectl rollout restart statefulset/%s -n %s", ByOrdinal: true,
	},
	{
		Group: "apps", Version: "v1", Name: "DaemonSet", Resource: "daemonsets", ShortNames: []string{"ds"},
		PodLabels: map[string]string{"controller-revision-hash": "dryrun", "pod-template-generation": "1"},
		Method:    v1alpha1.MethodRolloutRestart, ByHand: "kubectl rollout restart daemonset/%s -n %s", OnEveryNode: true,
	},
	{
		Group: "apps", Version: "v1", Name: "ReplicaSet", Resource: "replicasets", ShortNames: []string{"rs"},
		Method: v1alpha1.MethodEviction, HasDeadline: true,
	},
	{
		Group: "argoproj.io", Version: "v1alpha1", Name: "Rollout", Resource: "rollouts", ShortNames: []string{"ro"}, Optional: true,
		Makes: "ReplicaSet", PodLabels: map[string]string{"rollouts-pod-template-hash": "dryrun"},
		Method: v1alpha1.MethodRestartAt, ByHand: "kubectl argo rollouts restart %s -n %s", HasDeadline: true,
	},
	{
		Group: "batch", Version: "v1", Name: "Job", Resource: "jobs",
		PodLabels: jobPodLabels, RunsToCompletion: true,
	},
	{
		Group: "batch", Version: "v1", Name: "CronJob", Resource: "cronjobs", ShortNames: []string{"cj"},
		Makes: "Job", PodLabels: jobPodLabels, RunsToCompletion: true,
	},
}

// KindOf is the kind of a group and name. Of one that is not read it is the zero value, with the names alone.
func KindOf(group, name string) *Kind {
	for i := range Kinds {
		if kind := &Kinds[i]; kind.Name == name && kind.Group == group {
			return kind
		}
	}
	return &Kind{Group: group, Name: name}
}

// IsRead reports whether objects of the kind are read.
func (k *Kind) IsRead() bool { return k.Resource != "" }

// APIVersion is the group and version as manifests name them.
func (k *Kind) APIVersion() string { return k.Group + "/" + k.Version }

// PodOwner is the kind of what controls its Pods.
func (k *Kind) PodOwner() string {
	if k.Makes != "" {
		return k.Makes
	}
	return k.Name
}

// KindNamed is the kind of a name, whatever its group: of those that are read no two have the same.
func KindNamed(name string) *Kind {
	for i := range Kinds {
		if Kinds[i].Name == name {
			return &Kinds[i]
		}
	}
	return &Kind{Name: name}
}
