package controllers

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
	"github.com/fullmesh/fullmesh/internal/inventory"
	"github.com/fullmesh/fullmesh/internal/restart"
)

// Do does the step that a verdict asks for, in the background. It returns in how long it must be asked again; 0 where
// it is being done.
func (a *actor) Do(ctx context.Context, verdict *restart.Verdict, policy *v1alpha1.MeshPolicy) time.Duration {
	if r := verdict.Workload.InFlight; r != nil && r.Pending() {
		return a.Resolve(ctx, r)
	}
	object := verdict.Workload.Object
	step := func(ctx context.Context) error { return nil }
	switch verdict.Step {
	case restart.StepRestart:
		step = func(ctx context.Context) error { return a.start(ctx, verdict, policy) }
	case restart.StepEvict:
		step = func(ctx context.Context) error { return a.evict(ctx, verdict, policy) }
	case restart.StepFinish:
		step = func(ctx context.Context) error { return a.finish(ctx, verdict, policy) }
	case restart.StepRecheck:
		step = func(ctx context.Context) error { return a.recheck(ctx, verdict.Restart) }
	}
	return a.work(ctx, object.UID, func() {
		if verdict.Step == restart.StepRestart {
			a.inventory.AddPendingRestart(verdict.Restart) // it counts from now on
		}
	}, step)
}

// Resolve reads whether the API server has a MeshRestart, in the background, where its creation had no answer. It is
// not acted upon before that.
func (a *actor) Resolve(ctx context.Context, pending *inventory.Restart) time.Duration {
	return a.work(ctx, pending.WorkloadUID, func() {}, func(ctx context.Context) error { return a.reread(ctx, pending) })
}

// Recheck reads what became of a restart, in the background.
func (a *actor) Recheck(ctx context.Context, unfinished *inventory.Restart) time.Duration {
	return a.work(ctx, types.UID(unfinished.Namespace+"/"+unfinished.Name), func() {}, func(ctx context.Context) error {
		if err := a.recheck(ctx, unfinished); err != nil {
			return err
		}
		return errRecheckLater // until nothing asks for it any more
	})
}

// errRecheckLater has a restart rechecked with back-off.
var errRecheckLater = errors.New("check again later")

// Prune deletes a MeshRestart that is not kept any more, in the background.
func (a *actor) Prune(ctx context.Context, surplus *inventory.Restart) time.Duration {
	return a.work(ctx, surplus.UID, func() {}, func(ctx context.Context) error { return a.deleteRestart(ctx, surplus) })
}

// work takes on a step unless the same workload is being acted on, the last step of it has just failed, or all
// workers are busy. Once it is taken on, begin is called before work returns.
func (a *actor) work(ctx context.Context, uid types.UID, begin func(), step func(context.Context) error) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[uid] {
		return 0
	}
	if wait := a.failed.wait(uid, a.now()); wait > 0 {
		return wait
	}
	select {
	case a.slots <- struct{}{}:
	default:
		return minDelay // done is called when one of them is free
	}
	a.busy[uid] = true
	begin()
	go func() {
		defer a.done()
		ctx, cancel := context.WithTimeout(ctx, stepTime)
		defer cancel()
		err := step(ctx)
		if err != nil && !errors.Is(err, errRecheckLater) && !errors.Is(err, errStopped) {
			log.FromContext(ctx).Error(err, "What was decided could not be done, and is tried again")
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, uid)
		<-a.slots
		if err != nil {
			a.failed.failed(uid, a.now(), restart.LastRetry)
		} else {
			a.failed.succeeded(uid)
		}
	}()
	return 0
}
