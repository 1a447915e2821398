package controllers

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Events are debounced before the inventory is looked at: for at least minDelay, and for several times as long as
// the last pass took, up to maxDelay. A busy cluster must not mean a busy operator.
const (
	minDelay     = 50 * time.Millisecond
	delayPerPass = 4
	maxDelay     = time.Second
)

// theInventory is the one request there is.
var theInventory = reconcile.Request{}

// debouncer asks for passes over the inventory.
type debouncer struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	wait  time.Duration
}

func (d *debouncer) start(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue, d.wait = queue, minDelay
}

// passTook says how long a pass took.
func (d *debouncer) passTook(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wait = min(max(minDelay, delayPerPass*took), maxDelay)
}

// Trigger asks for a pass soon. What asks until then is served by the same one.
func (d *debouncer) Trigger() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue != nil {
		d.queue.AddAfter(theInventory, d.wait)
	}
}

// In asks for a pass after a time, but not sooner than Trigger does; 0 asks for none.
func (d *debouncer) In(wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue != nil && wait > 0 {
		d.queue.AddAfter(theInventory, max(wait, d.wait))
	}
}
