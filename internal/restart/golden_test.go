package restart_test

import (
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/test/builder"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// stories are whole rollouts. Each is told in testdata/<name>.txt, and again with what happens being
// learned of in other orders, which must come to the same end.
var stories = merged(failureStories, pacingStories, map[string]func(*simulation){
	"a shop of several kinds": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, builder.StatefulSet("shop", "db").Replicas(3))
		add(s, builder.DaemonSet("shop", "log"))
		add(s, builder.Deployment("shop", "batch").Replicas(2).Recreate())
		add(s, deployment("shop", "legacy").Annotated(v1alpha1.RestartAnnotation, v1alpha1.RestartDisabled))
		add(s, deployment("shop", "plain").Labelled("sidecar.istio.io/inject", "false"))
		s.run(2)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The administrator accepts downtime.")
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil).Accepting(v1alpha1.RiskDowntime))
		s.runUntilQuiet()
	},
	"a Deployment that crashes in the mesh": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		s.addNamespace("shop")
		broken := add(s, deployment("shop", "broken"))
		broken.crashes = inMesh
		add(s, deployment("shop", "cart"))
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("What it needs is there again: its Pods come up.")
		broken.crashes = nil
		s.runUntilQuiet()
	},
	"a Deployment whose owner mends it": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").ProgressTimeout(60))
		s.addNamespace("shop")
		broken := add(s, deployment("shop", "broken"))
		broken.crashes = inMesh
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The owner mends the template.")
		broken.crashes = nil
		s.setTemplate(broken, "proxy.istio.io/config", "holdApplicationUntilProxyStarts: true")
		s.runUntilQuiet()
	},
	"a label that is taken away": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNewNamespace("shop")
		s.label("shop", "istio-injection", "enabled")
		s.run(1)
		add(s, deployment("shop", "cart"))
		s.runUntilQuiet()
		s.label("shop", "istio-injection", "disabled")
		s.runUntilQuiet()
		s.say("The administrator has what is left over taken away.")
		s.setPolicy(builder.Enforcing("mesh").Remediating("Missing", "Leftover"))
		s.runUntilQuiet()
	},
	"another revision": func(s *simulation) {
		s.setWebhooks(builder.RevisionWebhooks("blue"), builder.RevisionWebhooks("green"))
		s.setPolicy(builder.Enforcing("mesh").Remediating("Missing", "Stale"))
		s.addNewNamespace("shop")
		s.label("shop", "istio.io/rev", "blue")
		s.run(1)
		add(s, deployment("shop", "cart"))
		add(s, builder.StatefulSet("shop", "db").Replicas(3))
		s.runUntilQuiet()
		s.label("shop", "istio.io/rev", "green")
		s.runUntilQuiet()
	},
	"disruption budgets": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).Labelled("tier", "data"))
		add(s, builder.StatefulSet("shop", "queue").Replicas(3).Labelled("tier", "data"))
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "rigid").Unavailable(1))
		s.addBudget(builder.DisruptionBudget("shop", "data").Covering("tier", "data"), 5)
		s.addBudget(builder.DisruptionBudget("shop", "cart"), 3)
		s.addBudget(builder.DisruptionBudget("shop", "rigid"), 3)
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"a policy that is set to Report in the middle": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The policy is set to Report.")
		s.setPolicy(builder.Reporting("mesh"))
		s.runUntilQuiet()
		s.say("The policy is set to Enforce.")
		s.setPolicy(builder.Enforcing("mesh"))
		s.runUntilQuiet()
	},
	"the red button": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The red button is pressed.")
		s.stopped = true
		s.runUntilQuiet()
		s.say("It is let go.")
		s.stopped = false
		s.runUntilQuiet()
	},
	"budgets and fairness": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, 3).Budget(v1alpha1.BudgetScopeNamespace, "50%", nil))
		s.addNamespace("bank")
		s.addNamespace("shop")
		for _, name := range []string{"a", "b", "c", "d"} {
			add(s, deployment("bank", name))
		}
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "wide").Replicas(10).Surge(4))
		s.label("bank", "istio-injection", "enabled")
		s.run(3)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"an Argo Rollout": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		addRollout(s, builder.Rollout("shop", "cart").Replicas(3))
		addRollout(s, builder.Rollout("shop", "alone"))
		addRollout(s, builder.Rollout("shop", "wide").Replicas(6).Unavailable(2))
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The administrator accepts downtime.")
		s.setPolicy(builder.Enforcing("mesh").Accepting(v1alpha1.RiskDowntime))
		s.runUntilQuiet()
	},
	"an Argo Rollout that is updated in the middle": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := addRollout(s, builder.Rollout("shop", "cart").Replicas(4).Unavailable(1))
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.say("Its owner updates it.")
		s.setTemplate(cart, "version", "2")
		s.runUntilQuiet()
	},
	"an Argo Rollout whose update is given up": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := addRollout(s, builder.Rollout("shop", "cart").Replicas(4).Unavailable(1))
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.say("Its owner begins an update, which waits.")
		cart.argo.waits = true
		s.setTemplate(cart, "version", "2")
		s.run(12)
		s.say("Its owner goes back.")
		s.setTemplate(cart, "version", "")
		s.runUntilQuiet()
	},
	"an Argo Rollout under a disruption budget": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.addNamespace("shop")
		addRollout(s, builder.Rollout("shop", "cart").Replicas(4).Unavailable(2).Labelled("tier", "web"))
		s.addBudget(builder.DisruptionBudget("shop", "cart"), 3)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"an Argo Rollout that its owner restarts": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := addRollout(s, builder.Rollout("shop", "cart").Replicas(2))
		s.label("shop", "istio-injection", "enabled")
		s.run(1)
		s.say("Its owner asks for a restart in a minute and a half.")
		s.change(cart, func() { cart.setRestartAt(s.now.Add(90 * time.Second)) })
		s.runUntilQuiet()
	},
	"an Argo Rollout whose restart is taken back": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := addRollout(s, builder.Rollout("shop", "cart").Replicas(4).Unavailable(1))
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.say("Somebody applies it without restartAt.")
		s.change(cart, func() { cart.setRestartAt(time.Time{}) })
		s.runUntilQuiet()
	},
	"a silent injector": func(s *simulation) {
		s.setWebhooks(lettingPass)
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(3)
		s.say("The injector goes silent just after it was asked.")
		s.down = true
		s.run(20)
		s.say("The injector is back.")
		s.down = false
		s.runUntilQuiet()
	},
	"an injector that is silent to all but dry runs": func(s *simulation) {
		s.setWebhooks(lettingPass)
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		s.down, s.dryRunsPass = true, true
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"an injector that cannot be reached": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		s.down = true
		s.label("shop", "istio-injection", "enabled")
		s.run(20)
		s.say("The injector is back.")
		s.down = false
		s.runUntilQuiet()
	},
	"an injector that is rolled out": func(s *simulation) {
		s.setWebhooks(builder.RevisionWebhooks("blue"), builder.RevisionWebhooks("green"))
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 1, nil))
		blue := s.addControlPlane("blue")
		s.addControlPlane("green")
		s.addNewNamespace("bank")
		s.addNewNamespace("shop")
		add(s, deployment("bank", "pay"))
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "web"))
		s.label("shop", "istio.io/rev", "blue")
		s.run(4)
		s.say("istiod of revision blue is upgraded.")
		blue.startup = 6 * stepTime
		s.setTemplate(blue, "version", "new")
		s.run(2)
		s.say("Another namespace asks for revision green.")
		s.label("bank", "istio.io/rev", "green")
		s.runUntilQuiet()
	},
	"an injector that is scaled to zero": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		plane := s.addControlPlane("default")
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		s.scale(plane, 0)
		s.down = true
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("It is scaled up.")
		s.scale(plane, 2)
		s.down = false
		s.runUntilQuiet()
	},
	"mutual TLS that is strict": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		add(s, deployment("shop", "web"))
		s.setMutualTLS("shop", "pay", "STRICT")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"mutual TLS that is strict for all": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.addNamespace("bank")
		s.addNamespace("shop")
		add(s, deployment("bank", "ledger"))
		add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "web"))
		s.setMutualTLS(istioNamespace, "", "STRICT")
		s.label("bank", "istio-injection", "enabled")
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The bank takes plain traffic for now.")
		s.setMutualTLS("bank", "", "PERMISSIVE")
		s.runUntilQuiet()
		s.say("The administrator accepts it.")
		s.setPolicy(builder.Enforcing("mesh").Unbounded().Accepting(v1alpha1.RiskStrictMTLS))
		s.runUntilQuiet()
	},
	"a node that is drained": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		for _, name := range []string{"east", "north", "west"} {
			s.addNode(name, 20)
		}
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, builder.DaemonSet("shop", "log"))
		add(s, deployment("shop", "web").Replicas(1))
		s.run(1)
		s.say("Node north is cordoned.")
		s.cordon("north", true)
		s.label("shop", "istio-injection", "enabled")
		s.run(10)
		s.say("It is drained, and comes back.")
		s.drain("north")
		s.run(6)
		s.cordon("north", false)
		s.runUntilQuiet()
	},
	"Pods that cannot be scheduled": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNode("north", 4)
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		s.run(1)
		s.say("Its owner asks for more Pods than there is room for.")
		s.scale(cart, 6)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("There is another node.")
		s.addNode("south", 10)
		s.runUntilQuiet()
	},
	"a quota that admits no surge": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.addNamespace("shop")
		add(s, deployment("shop", "cart"))
		add(s, builder.Deployment("shop", "web").Replicas(2).Surge(0).Unavailable(1))
		s.quotas["shop"] = 5
		s.label("shop", "istio-injection", "enabled")
		s.run(20)
		s.say("The quota is raised.")
		s.quotas["shop"] = 6
		s.runUntilQuiet()
	},
	"somebody takes the restart back": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		cart.startup = 2 * stepTime
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("GitOps sets the template back.")
		s.setTemplate(cart, v1alpha1.RestartedByAnnotation, "")
		s.runUntilQuiet()
	},
	"scaled to zero, and no longer in the mesh": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Budget(v1alpha1.BudgetScopePolicy, 2, nil))
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		add(s, deployment("shop", "pay"))
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("cart is scaled to zero.")
		s.scale(cart, 0)
		s.run(1)
		s.say("The label is taken off the namespace.")
		s.label("shop", "istio-injection", "")
		s.runUntilQuiet()
	},
	"one Pod of a hundred": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		s.label("shop", "istio-injection", "enabled")
		wide := add(s, deployment("shop", "wide").Replicas(100).Surge("25%").Unavailable("25%"))
		s.takeOut(wide, 41)
		s.runUntilQuiet()
	},
	"a disruption budget that a rolling update would break": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, deployment("shop", "cart").Replicas(4).Surge(1).Unavailable(2))
		s.addBudget(builder.DisruptionBudget("shop", "cart"), 3)
		s.countBudgets()
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"strategies that a changed template does not move": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh").Unbounded())
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		add(s, builder.StatefulSet("shop", "queue").Replicas(3).Partition(2))
		add(s, builder.DaemonSet("shop", "log").OnDelete())
		add(s, builder.ReplicaSet("shop", "old").Replicas(2))
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"an update that its owner has put off": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		db := add(s, builder.StatefulSet("shop", "db").Replicas(2).OnDelete())
		s.run(1)
		s.say("The template of db is changed.")
		s.setTemplate(db, "version", "2")
		s.run(1)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("Its owner deletes the Pods, one after the other.")
		for range 2 {
			db.remove(s, db.pods[0])
			s.run(3)
		}
		s.runUntilQuiet()
	},
	"a workload that an operator controls": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(2).With(func(d *appsv1.StatefulSet) {
			d.OwnerReferences = []metav1.OwnerReference{builder.ControlledByOther("acid.zalan.do/v1", "postgresql", "main", "pg")}
		}))
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("The administrator accepts that its Pods are evicted.")
		s.setPolicy(builder.Enforcing("mesh").Accepting(v1alpha1.RiskOwnedByOperator))
		s.runUntilQuiet()
	},
	"an injector that dies while Pods are evicted": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The injector dies.")
		s.down = true
		s.run(20)
		s.say("The injector is back.")
		s.down = false
		s.runUntilQuiet()
	},
	"an injector that goes silent while Pods are evicted": func(s *simulation) {
		s.setWebhooks(lettingPass)
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The injector goes silent.")
		s.down = true
		s.run(20)
		s.say("The injector is back.")
		s.down = false
		s.runUntilQuiet()
	},
	"a label that is taken away while Pods are evicted, and comes back": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.label("shop", "istio-injection", "enabled")
		s.run(6)
		s.label("shop", "istio-injection", "disabled")
		s.run(6)
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
	},
	"the red button while Pods are evicted": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The red button is pressed.")
		s.stopped = true
		s.runUntilQuiet()
		s.say("It is let go.")
		s.stopped = false
		s.runUntilQuiet()
	},
	"a policy that is set to Report while Pods are evicted": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		s.label("shop", "istio-injection", "enabled")
		s.run(5)
		s.say("The policy is set to Report.")
		s.setPolicy(builder.Reporting("mesh"))
		s.run(6)
		s.say("The policy is set to Enforce.")
		s.setPolicy(builder.Enforcing("mesh"))
		s.runUntilQuiet()
	},
	"Pods that crash when they are evicted": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		db := add(s, builder.StatefulSet("shop", "db").Replicas(3).OnDelete())
		db.crashes = inMesh
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("What they need is there again.")
		db.crashes = nil
		s.runUntilQuiet()
	},
	"a workload that is paused": func(s *simulation) {
		s.setPolicy(builder.Enforcing("mesh"))
		s.addNamespace("shop")
		cart := add(s, deployment("shop", "cart"))
		s.change(cart, func() { cart.object.(*appsv1.Deployment).Spec.Paused = true })
		s.label("shop", "istio-injection", "enabled")
		s.runUntilQuiet()
		s.say("It is resumed.")
		s.change(cart, func() { cart.object.(*appsv1.Deployment).Spec.Paused = false })
		s.runUntilQuiet()
	},
})

// merged are all stories of several.
func merged(all ...map[string]func(*simulation)) map[string]func(*simulation) {
	together := map[string]func(*simulation){}
	for _, some := range all {
		maps.Copy(together, some)
	}
	return together
}

func TestStories(t *testing.T) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSimulation(t)
			story(s)
			got := s.transcript.String() + "\n" + s.outcome() + "\n"
			path := filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(name, ",", ""), " ", "-")+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the story has changed; -update writes it anew (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStoriesEndTheSameInWhateverOrderTheyAreLearnedOf(t *testing.T) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inOrder := newSimulation(t)
			story(inOrder)
			seeds := uint64(10)
			if inOrder.brief {
				seeds = 1
			}
			for seed := range seeds {
				shuffled := newSimulation(t)
				random := rand.New(rand.NewPCG(seed, 0))
				shuffled.arrange = func(events []event) ([]event, []event) {
					return rearrange(events, random.IntN), nil
				}
				story(shuffled)
				if diff := cmp.Diff(inOrder.outcome(), shuffled.outcome()); diff != "" {
					t.Errorf("seed %d comes to another end (-want +got):\n%s\n%s", seed, diff, shuffled.transcript.String())
				}
			}
		})
	}
}

// rearrange shuffles events; those about the same thing stay in their order.
func rearrange(events []event, intN func(int) int) []event {
	queues := map[string][]event{}
	var order []string
	for _, event := range events {
		queues[event.about] = append(queues[event.about], event)
		order = append(order, event.about)
	}
	for i := len(order) - 1; i > 0; i-- {
		j := intN(i + 1)
		order[i], order[j] = order[j], order[i]
	}
	shuffled := make([]event, 0, len(events))
	for _, about := range order {
		shuffled = append(shuffled, queues[about][0])
		queues[about] = queues[about][1:]
	}
	return shuffled
}

// Every story is told by a transcript, and every transcript tells a story.
func TestEveryTranscriptIsOfAStory(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) != len(stories) {
		t.Errorf("%d stories and %d transcripts (%v)", len(stories), len(files), err)
	}
}
