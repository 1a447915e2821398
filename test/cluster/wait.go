package cluster

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Eventually tries condition every so often until it returns nil. Where it does not in time, the error is
// the last that was not of the end of the wait itself.
func Eventually(ctx context.Context, every, limit time.Duration, condition func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, every, limit, true, func(ctx context.Context) (bool, error) {
		now := condition(ctx)
		if ctx.Err() == nil || last == nil {
			last = now
		}
		return now == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case last == nil: // it was not tried at all
		return err
	default:
		return last
	}
}
