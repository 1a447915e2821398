package restart_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

// unshown adds a namespace in which nothing shows that injection works, with workloads of several kinds.
func unshown(s *simulation, name string) map[string]*app {
	s.addNewNamespace(name)
	apps := map[string]*app{
		"cart": add(s, deployment(name, "cart")),
		"pay":  add(s, deployment(name, "pay").Replicas(2)),
		"solo": add(s, deployment(name, "solo").Replicas(1)),
		"web":  add(s, deployment(name, "web").Replicas(5)),
		"db":   add(s, builder.StatefulSet(name, "db").Replicas(2)),
	}
	return apps
}

// pacingStories are of what goes first, what follows, and when nothing may begin.
var pacingStories = map[string]func(*simulation){
	"a first workload that goes well": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Soaking(120))
		unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"a first workload that its owner names": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		apps := unshown(s, "shop")
		apps["db"].object.SetAnnotations(map[string]string{v1alpha1.CanaryAnnotation: "true"})
		s.changed(apps["db"])
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"a first workload that fails": func(s *simulation) {
		s.setPolicy(failing())
		apps := unshown(s, "shop")
		apps["pay"].crashes = inMesh
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"first workloads that fail, and a third one that goes well": func(s *simulation) {
		s.setPolicy(failing())
		apps := unshown(s, "shop")
		apps["pay"].crashes, apps["cart"].crashes = inMesh, inMesh
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("After the cool-down.")
		s.wait(9 * time.Minute)
		s.runUntilQuiet()
	},
	"first workloads that crash later, until the owner asks": func(s *simulation) {
		s.setPolicy(failing().Soaking(60))
		apps := unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(9)
		s.say("The first begins to crash.")
		apps["pay"].crashes = inMesh
		s.run(9)
		s.say("The second begins to crash.")
		apps["cart"].crashes = inMesh
		s.runUntilQuiet()
		s.say("The owner asks for another try.")
		s.ask(s.namespace("shop"), "once")
		s.runUntilQuiet()
	},
	"a first workload that is unready for a moment while it soaks": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Soaking(120))
		apps := unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(9)
		s.say("A Pod of it goes.")
		apps["pay"].remove(s, apps["pay"].pods[0])
		s.runUntilQuiet()
	},
	"a first workload that is scaled to zero": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Soaking(120))
		apps := unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.say("Its owner scales it to zero.")
		s.scale(apps["pay"], 0)
		s.runUntilQuiet()
	},
	"a first workload that is deleted while it soaks": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Soaking(120))
		apps := unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(12)
		s.say("Its owner deletes it.")
		s.delete(apps["pay"])
		s.runUntilQuiet()
	},
	"a first workload that is not well when it has soaked": func(s *simulation) {
		s.setPolicy(failing().Soaking(60))
		apps := unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(9)
		s.say("It begins to crash.")
		apps["pay"].crashes = inMesh
		s.runUntilQuiet()
		s.say("It is well again.")
		apps["pay"].crashes = nil
		s.runUntilQuiet()
	},
	"an injector that changes while the first workload soaks": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Soaking(120))
		unshown(s, "shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(12)
		s.say("The injector changes.")
		s.setWebhooks(lettingPass)
		s.runUntilQuiet()
	},
	"an injector of another revision that changes all the time": func(s *simulation) {
		blue := builder.RevisionWebhooks("blue")
		s.setWebhooks(blue, builder.RevisionWebhooks("green"))
		s.setPolicy(builder.Enforcing("mesh").Soaking(60))
		s.addNewNamespace("shop")
		add(s, deployment("shop", "cart").Replicas(2))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio.io/rev", "blue")
		for range 10 {
			s.run(2)
			s.say("The injector of revision green changes.")
			s.setWebhooks(blue, builder.LettingPass(builder.RevisionWebhooks("green")))
			s.run(1)
			s.setWebhooks(blue, builder.RevisionWebhooks("green"))
		}
		s.runUntilQuiet()
	},
	"twelve brokers of five minutes each": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		s.addNamespace("shop")
		brokers := add(s, builder.StatefulSet("shop", "kafka").Replicas(12))
		brokers.startup = 5 * time.Minute
		s.addBudget(builder.DisruptionBudget("shop", "kafka"), 11)
		add(s, builder.StatefulSet("shop", "zookeeper").Replicas(3))
		s.label("shop", "istio-injection", "enabled")
		s.run(3)
		for range 80 {
			s.wait(time.Minute)
		}
	},
	"a DaemonSet on two thousand nodes": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, 50))
		s.brief = true
		s.addNamespace("shop")
		log := add(s, builder.DaemonSet("shop", "log").Unavailable(40))
		s.spread(log, 2000)
		// It goes after the DaemonSet: that is what is slow and may not be taken for stuck.
		add(s, builder.StatefulSet("shop", "db").Replicas(3))
		s.label("shop", "istio-injection", "enabled")
		for range 30 {
			s.run(10)
			s.say("%s has %s", log, log.describe())
			if log.count(inMesh) == 2000 {
				break
			}
		}
		s.runUntilQuiet()
	},
	"a window that closes": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil).Window(v1alpha1.WindowAllow, "0 12 * * *", 10, ""))
		s.addNamespace("shop")
		for _, name := range []string{"a", "b", "c", "d"} {
			add(s, deployment("shop", name)).startup = time.Minute
		}
		s.label("shop", "istio-injection", "enabled")
		s.run(12 * 6)
		s.say("The next day.")
		s.wait(23*time.Hour + 47*time.Minute)
		s.runUntilQuiet()
	},
	"two policies": func(s *simulation) {
		s.setPolicy(builder.Enforcing("all").Budget(v1alpha1.BudgetScopePolicy, 2, nil))
		s.setPolicy(builder.Enforcing("careful").Priority(10).Over("team", "bank").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		for _, name := range []string{"bank", "shop"} {
			s.addNamespace(name)
			for _, app := range []string{"a", "b", "c"} {
				add(s, deployment(name, app))
			}
			s.label(name, "istio-injection", "enabled")
		}
		s.label("bank", "team", "bank")
		s.run(12)
		s.say("The administrator deletes the careful one.")
		s.deletePolicy("careful")
		s.runUntilQuiet()
	},
	"an autoscaler in the middle": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart").Replicas(4))
		cart.startup = 3 * stepTime
		s.label("shop", "istio-injection", "enabled")
		for i, replicas := range []int32{4, 9, 6, 12, 5, 3, 8} {
			s.say("The autoscaler asks for %d.", replicas)
			s.scale(cart, replicas)
			s.run(4 + i)
		}
		s.runUntilQuiet()
	},
	"a large workload that waits for its turn": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 4, 4))
		for i, name := range []string{"a", "b", "c", "d"} {
			s.addNamespace(name)
			for n := range 3 {
				add(s, deployment(name, fmt.Sprintf("small-%d", n))).startup = time.Duration(i+1) * stepTime
			}
			s.label(name, "istio-injection", "enabled")
		}
		s.run(6)
		s.addNamespace("shop")
		add(s, deployment("shop", "large").Replicas(8).Surge(4))
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
}

func (s *simulation) deletePolicy(name string) {
	s.policies = slices.DeleteFunc(s.policies, func(p *v1alpha1.MeshPolicy) bool { return p.Name == name })
}

// spread has a DaemonSet run on so many nodes.
func (s *simulation) spread(a *app, nodes int) {
	for a.nodes = nodes; len(a.pods) < nodes; {
		p := s.newPod(a, len(a.pods), yesterday)
		p.ready = yesterday
		s.tellPod(a, p)
	}
	s.report(a)
}
