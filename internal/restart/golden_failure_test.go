package restart_test

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

// failing is a policy under which restarts fail, and are tried again, soon.
func failing() *builder.PolicyBuilder {
	return builder.Enforcing("mesh").ProgressTimeout(60).CoolDown(600).Budget(v1alpha1.BudgetScopePolicy, 1, nil)
}

// crashing adds Deployments whose Pods crash in the mesh.
func addCrashing(s *simulation, namespace string, names ...string) []*app {
	var apps []*app
	for _, name := range names {
		a := add(s, deployment(namespace, name).Replicas(2))
		a.crashes = inMesh
		apps = append(apps, a)
	}
	return apps
}

func fix(apps ...*app) {
	for _, a := range apps {
		a.crashes = nil
	}
}

// failureStories are of restarts that fail, and of what follows.
var failureStories = map[string]func(*simulation){
	"the breaker opens, and a probe closes it": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("bank")
		s.addNamespace("shop")
		failed := append(addCrashing(s, "bank", "a", "b"), addCrashing(s, "shop", "c", "d")...)
		add(s, deployment("shop", "e").Replicas(3))
		s.label("bank", "istio-injection", "enabled")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("What they need is there again.")
		fix(failed...)
		s.runUntilQuiet()
	},
	"the breaker opens, and probes fail until the administrator asks": func(s *simulation) {
		s.setPolicy(failing().StopAfter(2))
		var all []*app
		for _, namespace := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			s.addNamespace(namespace)
			all = append(all, addCrashing(s, namespace, "web")...)
			s.label(namespace, "istio-injection", "enabled")
		}
		s.run(6 * 120)
		s.say("What they need is there again for those that have not been tried.")
		fix(all[5:]...)
		s.runUntilQuiet()
		s.say("What they need is there again for all, and the administrator asks for another try.")
		fix(all...)
		s.ask("mesh", "at noon")
		s.runUntilQuiet()
	},
	"a namespace stops alone, and its owner asks": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("bank")
		s.addNamespace("shop")
		failed := addCrashing(s, "shop", "a", "b", "c")
		add(s, deployment("bank", "cart"))
		add(s, deployment("bank", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(30)
		s.label("bank", "istio-injection", "enabled")
		s.run(36)
		s.say("What they need is there again, and the owner asks for another try.")
		fix(failed...)
		s.ask(s.namespace("shop"), "now")
		s.runUntilQuiet()
	},
	"a namespace in which everything crashes, and the others go on": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("bank")
		s.addNamespace("shop")
		addCrashing(s, "shop", "a", "b", "c", "d", "e")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("bank is labelled.")
		add(s, deployment("bank", "cart"))
		add(s, deployment("bank", "pay"))
		s.label("bank", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"a workload whose owner asks for another try": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		broken := addCrashing(s, "shop", "broken")[0]
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The owner asks for another try, in vain.")
		s.ask(broken, "once")
		s.runUntilQuiet()
		s.say("The owner asks by the same value.")
		s.ask(broken, "once")
		s.runUntilQuiet()
		s.say("Only a Pod that is made anew finds what it needs, and the owner asks once more.")
		until := s.made
		broken.crashes = func(p *pod) bool { return inMesh(p) && p.number <= until }
		s.ask(broken, "twice")
		s.runUntilQuiet()
	},
	"one that fails among three hundred": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").ProgressTimeout(60).Budget(v1alpha1.BudgetScopePolicy, 20, nil))
		s.brief = true
		for n := range 10 {
			name := fmt.Sprintf("ns-%d", n)
			s.addNamespace(name)
			for m := range 30 {
				a := add(s, deployment(name, fmt.Sprintf("app-%02d", m)).Replicas(2))
				if n == 4 && m == 7 {
					a.crashes = inMesh
				}
			}
			s.label(name, "istio-injection", "enabled")
		}
		s.runUntilQuiet()
		s.say("%d of %d were restarted.", s.referee.Workloads(), len(s.apps))
	},
	"a restart that GitOps takes back": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		cart.startup = 2 * stepTime
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("GitOps sets the template back.")
		s.writtenBy(cart, "argocd-controller", metav1.ManagedFieldsOperationApply)
		s.setTemplate(cart, v1alpha1.RestartedByAnnotation, "")
		s.runUntilQuiet()
		s.say("It is told to keep the annotation, and the owner asks for another try.")
		s.ask(cart, "now")
		s.runUntilQuiet()
	},
	"a restart that its owner rolls back": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		cart := addCrashing(s, "shop", "cart")[0]
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.say("The owner runs kubectl rollout undo, which sets the annotations back as well.")
		s.writtenBy(cart, "kubectl", metav1.ManagedFieldsOperationUpdate)
		s.setTemplate(cart, v1alpha1.RestartedByAnnotation, "")
		s.runUntilQuiet()
		s.failOver()
		s.runUntilQuiet()
		s.say("The owner mends the template.")
		cart.crashes = nil
		s.setTemplate(cart, "proxy.istio.io/config", "holdApplicationUntilProxyStarts: true")
		s.runUntilQuiet()
	},
	"an owner rolls out in between": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The owner of cart rolls out another version, which crashes.")
		cart.crashes = func(p *pod) bool { return p.revision == 3 }
		s.writtenBy(cart, "helm", metav1.ManagedFieldsOperationUpdate)
		s.setTemplate(cart, "version", "2")
		s.runUntilQuiet()
		s.say("The owner rolls out a version that does not.")
		s.setTemplate(cart, "version", "3")
		s.runUntilQuiet()
	},
	"another replica takes over in the middle": func(s *simulation) {
		s.setPolicy(failing().StopAfter(2))
		s.addNamespace("bank")
		s.addNamespace("shop")
		crashing := append(addCrashing(s, "bank", "a"), addCrashing(s, "shop", "b")...)
		cart := add(s, deployment("shop", "cart"))
		s.label("bank", "istio-injection", "enabled")
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.failOver()
		s.run(30)
		s.failOver()
		s.run(58)
		s.say("The probe is in flight, and its template is replaced with what is in Git.")
		s.failOver()
		s.setTemplate(cart, v1alpha1.RestartedByAnnotation, "")
		s.failOver()
		s.runUntilQuiet()
		s.say("The administrator asks for another try.")
		fix(crashing...)
		s.ask("mesh", "now")
		s.failOver()
		s.runUntilQuiet()
	},
	"an injector that is mended after restarts have failed": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").ProgressTimeout(60).Budget(v1alpha1.BudgetScopePolicy, 3, nil))
		s.addNamespace("bank")
		s.addNamespace("shop")
		mended := 1 << 30
		crashes := func(p *pod) bool { return inMesh(p) && p.number < mended }
		add(s, deployment("shop", "cart")).crashes = crashes
		db := add(s, builder.StatefulSet("bank", "db").Replicas(3))
		db.crashes = crashes
		s.label("bank", "istio-injection", "enabled")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The administrator mends the injector's settings.")
		mended = s.made + 1
		s.setWebhooks(builder.LettingPass(builder.Webhooks()))
		s.runUntilQuiet()
		s.say("The owner deletes the Pod that crashes.")
		db.remove(s, db.pods[slices.IndexFunc(db.pods, crashes)])
		s.runUntilQuiet()
	},
	"Fullmesh dies between the writes": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.dies = "create"
		s.label("shop", "istio-injection", "enabled")
		s.run(4)
		s.dies = "touch"
		s.run(18)
		s.dies = "round"
		s.runUntilQuiet()
	},
	"an autoscaler that is always first": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		s.label("shop", "istio-injection", "enabled")
		s.run(2)
		for n := range 4 {
			s.events = nil // nobody learns of it in time
			s.scale(cart, int32(4+n%2))
			late := s.events
			s.events = nil
			s.tick()
			s.events = append(late, s.events...)
		}
		s.runUntilQuiet()
	},
	"a policy that is edited in the middle": func(s *simulation) {
		s.setPolicy(failing())
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "legacy").Labelled("tier", "legacy"))
		add(s, deployment("shop", "pay").Labelled("tier", "web"))
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The policy is narrowed to the tier web.")
		s.setPolicy(failing().Selecting("tier", "web"))
		s.runUntilQuiet()
	},
}
