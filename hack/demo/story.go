// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// exitSomethingToDo is what fullmesh plan ends with where there is.
const exitSomethingToDo = 2

func (d *demo) openShop(ctx context.Context) error {
	if err := d.chooseLabel(ctx); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: d.namespace}}
	if err := d.client.Create(ctx, namespace); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("the namespace %s is there already: a demo runs, or was not cleaned up. Delete it first: kubectl delete "+
				"namespace %[1]s", d.namespace)
		}
		return fmt.Errorf("creating Namespace %s: %w", d.namespace, err)
	}
	d.deleteLater(namespace)
	d.shop = shop(d.namespace, d.annotations)
	for i := range d.shop {
		if err := d.client.Create(ctx, d.shop[i].object); err != nil {
			return fmt.Errorf("creating %s: %w", d.shop[i].object.GetName(), err)
		}
	}
	if err := d.awaitShop(ctx); err != nil {
		return err
	}
	for i := range d.shop {
		exhibit := &d.shop[i]
		pods, _ := settled(exhibit.object)
		d.say.text("%s", strings.TrimRight(fmt.Sprintf("  %-24s %d %-4s   %s", kindOf(exhibit.object)+"/"+exhibit.object.GetName(), pods,
			map[bool]string{true: "Pod", false: "Pods"}[pods == 1], exhibit.remark), " "))
	}
	return d.rememberUntouched(ctx)
}

// awaitShop waits until every Pod is ready.
func (d *demo) awaitShop(ctx context.Context) error {
	return d.await(ctx, "the shop's Pods", func(ctx context.Context) error {
		for i := range d.shop {
			object := d.shop[i].object
			if err := d.client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
			if _, ready := settled(object); !ready {
				return fmt.Errorf("not every Pod of %s is ready", object.GetName())
			}
		}
		return nil
	})
}

// rememberUntouched writes down the Pods that must be there in the end.
func (d *demo) rememberUntouched(ctx context.Context) error {
	d.untouched = map[string]bool{}
	for i := range d.shop {
		if !d.shop[i].leftAlone {
			continue
		}
		pods, err := d.podsOf(ctx, d.shop[i].object.GetName())
		if err != nil {
			return err
		}
		for _, pod := range pods {
			d.untouched[string(pod.UID)] = true
		}
	}
	return nil
}

func (d *demo) podsOf(ctx context.Context, app string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := d.client.List(ctx, &pods, client.InNamespace(d.namespace), client.MatchingLabels{"app": app}); err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	return pods.Items, nil
}

func (d *demo) labelShop(ctx context.Context) error {
	d.say.command("kubectl label namespace %s %s=%s", d.namespace, d.labelKey, d.labelValue)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: d.namespace}}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, d.labelKey, d.labelValue)
	if err := d.client.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("labelling Namespace %s: %w", d.namespace, err)
	}
	if err := d.awaitInjection(ctx); err != nil {
		return err
	}
	d.say.text("Nothing happens to the Pods that run. Then one Deployment is scaled:")
	d.say.command("kubectl scale deployment %s -n %s --replicas=4", scaled, d.namespace)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: scaled}}
	if err := d.client.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":4}}`))); err != nil {
		return fmt.Errorf("scaling %s: %w", scaled, err)
	}
	if err := d.awaitShop(ctx); err != nil {
		return err
	}
	pods, err := d.podsOf(ctx, scaled)
	if err != nil {
		return err
	}
	meshed := len(slices.DeleteFunc(slices.Clone(pods), func(pod corev1.Pod) bool { return !hasSidecar(&pod) }))
	if meshed != 1 {
		return fmt.Errorf("%d Pods of %s have a sidecar, want the new one alone", meshed, scaled)
	}
	d.say.text("The new Pod has a sidecar, and the three next to it have none: three of four requests to %s arrive without mTLS, and no "+
		"dashboard says so.", scaled)
	return nil
}

// awaitInjection waits until the API server knows of the label: a Pod, created as a dry run, has a
// sidecar.
func (d *demo) awaitInjection(ctx context.Context) error {
	return d.await(ctx, "injection", func(ctx context.Context) error {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: "probe"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
		}
		if err := client.NewDryRunClient(d.client).Create(ctx, pod); err != nil {
			return err
		}
		if !hasSidecar(pod) {
			return errors.New("a new Pod would come up without a sidecar")
		}
		return nil
	})
}

func hasSidecar(pod *corev1.Pod) bool {
	isProxy := func(container corev1.Container) bool { return container.Name == "istio-proxy" }
	return slices.ContainsFunc(pod.Spec.Containers, isProxy) || slices.ContainsFunc(pod.Spec.InitContainers, isProxy)
}

func (d *demo) plan(ctx context.Context) error {
	d.say.text("It needs nothing installed and writes nothing. Exit status 2 says that there is something to do.")
	// What has changed in the last two seconds is still settling.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2500 * time.Millisecond):
	}
	return d.fullmesh(ctx, exitSomethingToDo, "plan", "-n", d.namespace)
}

func (d *demo) install(ctx context.Context) error {
	for _, path := range []string{"config/crd", "config/rbac", "config/guard"} {
		d.say.command("kubectl apply --server-side -k %s", path)
		if err := d.installMissing(ctx, path); err != nil {
			return err
		}
	}
	config, err := d.operatorConfig(ctx)
	if err != nil {
		return err
	}
	if err := d.showGuard(ctx, config); err != nil {
		return err
	}
	installed, err := d.isInstalled(ctx)
	if err != nil {
		return err
	}
	if installed {
		d.say.good("the operator runs in this cluster already; the demo uses it")
		return nil
	}
	if err := d.startOperator(config); err != nil {
		return err
	}
	d.say.good("the operator runs on this machine, with a token of ServiceAccount %s/%s", operatorNamespace, operatorName)
	return nil
}

// showGuard tries what the operator must not, as the operator.
func (d *demo) showGuard(ctx context.Context, config *rest.Config) error {
	operator, err := client.New(config, client.Options{Scheme: d.client.Scheme()})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: scaled}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`))
	var refusal error
	err = d.await(ctx, "the guard to be in force", func(ctx context.Context) error {
		refusal = operator.Patch(ctx, deployment, patch, client.DryRunAll)
		switch {
		case refusal == nil:
			return errors.New("the operator's account may scale a Deployment")
		case strings.Contains(refusal.Error(), "ValidatingAdmissionPolicy"):
			return nil
		default:
			return refusal
		}
	})
	if err != nil {
		return err
	}
	d.say.text("The operator's account tries to scale %s to zero, and is refused:", scaled)
	d.say.good("%v", refusal)
	return nil
}

func (d *demo) applyPolicy(ctx context.Context) error {
	d.policy = &v1alpha1.MeshPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MeshPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "fullmesh-demo"},
		Spec: v1alpha1.MeshPolicySpec{
			Mode:     v1alpha1.ModeEnforce,
			Priority: new(int32(1000)),
			NamespaceSelector: &v1alpha1.LabelSelector{
				MatchLabels: map[string]v1alpha1.LabelValue{corev1.LabelMetadataName: v1alpha1.LabelValue(d.namespace)},
			},
			SettleSeconds: new(int32(2)),
			Budgets:       []v1alpha1.Budget{{Scope: v1alpha1.BudgetScopeNamespace, Workloads: new(intstr.FromInt32(2))}},
		},
	}
	shown, err := yaml.Marshal(map[string]any{
		"apiVersion": d.policy.APIVersion,
		"kind":       d.policy.Kind,
		"metadata":   map[string]any{"name": d.policy.Name},
		"spec":       d.policy.Spec,
	})
	if err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	d.say.command("kubectl apply -f - <<'EOF'\n%sEOF", shown)
	// One that was left behind would say the same, or something older.
	if err := d.client.Delete(ctx, d.policy.DeepCopy()); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting a former MeshPolicy: %w", err)
	}
	if err := d.client.Create(ctx, d.policy); err != nil {
		return fmt.Errorf("creating MeshPolicy %s: %w", d.policy.Name, err)
	}
	d.deleteLater(d.policy)
	return nil
}

func (d *demo) followUntilHeld(ctx context.Context) error {
	return d.follow(ctx, "everything that can be restarted to be in the mesh", func(report *v1alpha1.MeshReport) bool {
		return meta.IsStatusConditionTrue(report.Status.Conditions, v1alpha1.ConditionSettled)
	})
}

// follow shows what the report says until that is enough.
func (d *demo) follow(ctx context.Context, what string, enough func(*v1alpha1.MeshReport) bool) error {
	begin := time.Now()
	said := map[string]bool{}
	meshed := int32(-1)
	return d.await(ctx, what, func(ctx context.Context) error {
		report, err := d.report(ctx)
		if err != nil {
			return err
		}
		var news []string
		restarts, err := d.restarts(ctx)
		if err != nil {
			return err
		}
		for i := range restarts {
			restart := &restarts[i]
			name := restart.Spec.Workload.Kind + "/" + restart.Spec.Workload.Name
			if restart.CreationTimestamp.Time.Before(begin.Add(-time.Second)) {
				continue
			}
			sentence := name + " is being restarted"
			if finished := meta.FindStatusCondition(restart.Status.Conditions, v1alpha1.ConditionFinished); finished != nil {
				sentence = fmt.Sprintf("%s: %s after %s", name, finished.Reason, restart.Status.EndTime.Sub(restart.CreationTimestamp.Time))
			}
			if !said[sentence] {
				said[sentence] = true
				news = append(news, sentence)
			}
		}
		pods := report.Status.Pods
		if len(news) > 0 || *pods.Meshed != meshed {
			meshed = *pods.Meshed
			d.say.text("%s", strings.TrimRight(fmt.Sprintf("  %4s  %s %2d of %d Pods   %s", time.Since(begin).Round(time.Second),
				drawBar(int(meshed), int(*pods.Eligible)), meshed, *pods.Eligible, strings.Join(news, "; ")), " "))
		}
		if !enough(report) {
			return errors.New("the report does not say so")
		}
		return nil
	})
}

// restarts are those of the namespace, in the order in which they were made.
func (d *demo) restarts(ctx context.Context) ([]v1alpha1.MeshRestart, error) {
	var made v1alpha1.MeshRestartList
	if err := d.client.List(ctx, &made, client.InNamespace(d.namespace)); err != nil {
		return nil, fmt.Errorf("listing MeshRestarts: %w", err)
	}
	slices.SortStableFunc(made.Items, func(a, b v1alpha1.MeshRestart) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return made.Items, nil
}

func (d *demo) report(ctx context.Context) (*v1alpha1.MeshReport, error) {
	report := &v1alpha1.MeshReport{}
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: d.namespace, Name: v1alpha1.ReportName}, report); err != nil {
		return nil, fmt.Errorf("getting the MeshReport: %w", err)
	}
	if report.Status.Pods == nil {
		return nil, errors.New("the MeshReport is empty")
	}
	return report, nil
}

func (d *demo) acceptDowntime(ctx context.Context) error {
	report, err := d.report(ctx)
	if err != nil {
		return err
	}
	rows := report.Status.Workloads
	if len(rows) != 1 || rows[0].Name != held || rows[0].Reason != "WouldCauseDowntime" {
		return fmt.Errorf("the report has the workloads %+v, want %s alone, held with WouldCauseDowntime", rows, held)
	}
	d.say.text("  %s/%s: %s, cleared by %s", rows[0].Kind, rows[0].Name, rows[0].Reason, rows[0].ClearsBy)
	d.say.text("  %s", rows[0].Message)
	d.say.text("A moment without %s is acceptable now, says its owner:", held)
	d.say.command("kubectl annotate statefulset %s -n %s %s=%s", held, d.namespace, v1alpha1.AcceptAnnotation, v1alpha1.RiskDowntime)
	statefulSet := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: held}}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AcceptAnnotation, v1alpha1.RiskDowntime)
	if err := d.client.Patch(ctx, statefulSet, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("annotating %s: %w", held, err)
	}
	return d.follow(ctx, "full mesh", func(report *v1alpha1.MeshReport) bool {
		return meta.IsStatusConditionTrue(report.Status.Conditions, v1alpha1.ConditionFullMesh) &&
			meta.IsStatusConditionTrue(report.Status.Conditions, v1alpha1.ConditionSettled)
	})
}

// sumUp shows how it ended, and looks at the Pods themselves whether it is so.
func (d *demo) sumUp(ctx context.Context) error {
	if err := d.fullmesh(ctx, 0, "status", "-n", d.namespace); err != nil {
		return err
	}
	made, err := d.restarts(ctx)
	if err != nil {
		return err
	}
	restarts := map[string]int{}
	for i := range made {
		restarts[made[i].Spec.Workload.Name]++
	}
	var once, alone []string
	for i := range d.shop {
		exhibit := &d.shop[i]
		name := kindOf(exhibit.object) + "/" + exhibit.object.GetName()
		pods, err := d.podsOf(ctx, exhibit.object.GetName())
		if err != nil {
			return err
		}
		if err := d.check(exhibit, pods, restarts[exhibit.object.GetName()]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if exhibit.leftAlone {
			alone = append(alone, name+" ("+exhibit.remark+")")
		} else {
			once = append(once, name)
		}
	}
	d.say.good("condition FullMesh of the MeshReport is True (scripts wait for it: kubectl wait --for=condition=FullMesh meshreport/%s "+
		"-n %s)", v1alpha1.ReportName, d.namespace)
	d.say.good("restarted, once each: %s", strings.Join(once, ", "))
	d.say.good("left alone, the same Pods as in the beginning: %s", strings.Join(alone, "; "))
	d.say.text("")
	return nil
}

// check holds what the Pods carry against what was promised.
func (d *demo) check(exhibit *exhibit, pods []corev1.Pod, restarts int) error {
	want := 1
	if exhibit.leftAlone {
		want = 0
	}
	if restarts != want {
		return fmt.Errorf("it was restarted %d times, want %d", restarts, want)
	}
	for i := range pods {
		pod := &pods[i]
		switch {
		case pod.DeletionTimestamp != nil:
		case exhibit.leftAlone && !d.untouched[string(pod.UID)]:
			return fmt.Errorf("the Pod %s was not there in the beginning", pod.Name)
		case !exhibit.leftAlone && !hasSidecar(pod):
			return fmt.Errorf("the Pod %s has no sidecar", pod.Name)
		}
	}
	return nil
}

// evidence is what helps to find out why the story went wrong: the report, and the end of the
// operator's log.
func (d *demo) evidence(ctx context.Context) error {
	const lastLines = 20
	var evidence []error
	if report, err := d.report(ctx); err == nil {
		if text, err := yaml.Marshal(report.Status); err == nil {
			evidence = append(evidence, fmt.Errorf("--- the MeshReport says:\n%s", text))
		}
	}
	if text, err := os.ReadFile(d.log); err == nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		evidence = append(evidence, fmt.Errorf("--- the operator's log ends with:\n%s", strings.Join(lines[max(0, len(lines)-lastLines):], "\n")))
	}
	return errors.Join(evidence...)
}
