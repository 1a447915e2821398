package command

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fullmesh/fullmesh/api/v1alpha1"
)

// gatherChanges is how long changes are gathered before they are shown.
const gatherChanges = 200 * time.Millisecond

// goal is what --until waits for.
type goal string

const (
	goalFullMesh goal = "full-mesh"
	goalSettled  goal = "settled"
)

// String, Set and Type make a goal a flag.
func (g *goal) String() string { return string(*g) }

func (g *goal) Set(value string) error {
	switch goal(value) {
	case goalFullMesh, goalSettled:
		*g = goal(value)
		return nil
	default:
		return errors.New("must be full-mesh or settled")
	}
}

func (g *goal) Type() string { return "goal" }

func (g *goal) isReached(document *statusDocument) bool {
	switch *g {
	case goalFullMesh:
		return document.isAtFullMesh()
	case goalSettled:
		return document.isSettled()
	default:
		return false
	}
}

// progress shows how far namespaces are, again and again.
type progress interface {
	show(document *statusDocument)
	// done leaves what was shown last.
	done()
}

// follow shows progress until the context ends or the goal is reached, and returns what it saw last.
func (o *statusOptions) follow(ctx context.Context, config *rest.Config, document *statusDocument, out screen) (*statusDocument, error) {
	var shown progress = &changes{out: out, before: map[string]string{}}
	if out.isTerminal() {
		shown = newBars(out)
	}
	defer shown.done()
	shown.show(document)
	if o.until.isReached(document) {
		return document, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	informers, changed, err := o.inform(ctx, cancel, config, len(document.Policies) > 0)
	if err != nil {
		return nil, err
	}
	for {
		select {
		case <-ctx.Done():
			if refused := context.Cause(ctx); apierrors.IsForbidden(refused) {
				return nil, withRights(refused, "status --watch needs to watch what it lists")
			}
			return document, nil
		case <-changed:
		}
		latest, err := o.read(ctx, informers)
		if err != nil {
			if ctx.Err() != nil {
				continue
			}
			return nil, err
		}
		document = latest
		shown.show(document)
		if o.until.isReached(document) {
			return document, nil
		}
		pause(ctx, gatherChanges)
	}
}

// inform watches reports and policies. The channel that it returns says that something has changed.
func (o *statusOptions) inform(ctx context.Context, cancel context.CancelCauseFunc, config *rest.Config, policies bool) (client.Reader,
	<-chan struct{}, error) {
	reports := cache.ByObject{}
	if o.namespace != "" {
		reports.Namespaces = map[string]cache.Config{o.namespace: {}}
	}
	informers, err := cache.New(config, cache.Options{
		Scheme:   newScheme(),
		ByObject: map[client.Object]cache.ByObject{&v1alpha1.MeshReport{}: reports},
		DefaultWatchErrorHandler: func(ctx context.Context, reflector *toolscache.Reflector, err error) {
			if apierrors.IsForbidden(err) {
				cancel(err)
				return
			}
			toolscache.DefaultWatchErrorHandler(ctx, reflector, err)
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watching: %w", err)
	}
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // It has been told and not been heard yet.
		}
	}
	kinds := []client.Object{&v1alpha1.MeshReport{}}
	if policies || o.namespace == "" {
		kinds = append(kinds, &v1alpha1.MeshPolicy{})
	}
	for _, kind := range kinds {
		informer, err := informers.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, nil, fmt.Errorf("watching %T: %w", kind, err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { tell() },
			UpdateFunc: func(any, any) { tell() },
			DeleteFunc: func(any) { tell() },
		})
		if err != nil {
			return nil, nil, fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	go func() { cancel(informers.Start(ctx)) }()
	informers.WaitForCacheSync(ctx)
	return informers, changed, nil
}

// changes writes a line for every namespace whose state has changed.
type changes struct {
	out    screen
	before map[string]string
}

func (c *changes) show(document *statusDocument) {
	for i := range document.Namespaces {
		namespace := &document.Namespaces[i]
		if now := namespace.summary(); c.before[namespace.Name] != now {
			c.before[namespace.Name] = now
			c.out.line("%s", now)
		}
	}
}

func (c *changes) done() {}

// bars draws a bar for every namespace.
type bars struct {
	progress *mpb.Progress
	byName   map[string]*bar
}

type bar struct {
	*mpb.Bar
	said atomic.Pointer[string]
}

func newBars(out screen, options ...mpb.ContainerOption) *bars {
	options = append([]mpb.ContainerOption{mpb.WithOutput(out.Writer)}, options...)
	return &bars{progress: mpb.New(options...), byName: map[string]*bar{}}
}

func (b *bars) show(document *statusDocument) {
	seen := map[string]bool{}
	for i := range document.Namespaces {
		namespace := &document.Namespaces[i]
		seen[namespace.Name] = true
		drawn := b.byName[namespace.Name]
		if drawn == nil {
			drawn = b.add(namespace.Name)
		}
		sum := counts{}
		sum.add(&namespace.namespaceRow)
		said := sum.String()
		drawn.said.Store(&said)
		// Neither completes the bar, which would be final: Pods come and go.
		drawn.SetTotal(int64(sum.Eligible), false)
		drawn.SetCurrent(int64(sum.Meshed))
	}
	for name, drawn := range b.byName {
		if !seen[name] {
			drawn.Abort(true)
			delete(b.byName, name)
		}
	}
}

func (b *bars) add(name string) *bar {
	drawn := &bar{}
	drawn.said.Store(new(string))
	drawn.Bar = b.progress.New(0, mpb.BarStyle(),
		mpb.BarWidth(30),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *drawn.said.Load() }, decor.WCSyncSpaceR)),
	)
	b.byName[name] = drawn
	return drawn
}

func (b *bars) done() {
	for _, drawn := range b.byName {
		drawn.Abort(false)
	}
	b.progress.Wait()
}

// pause waits, or less when the context ends before.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
