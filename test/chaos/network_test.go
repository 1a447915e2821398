package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// network is what lies between the operator and the API server.
type network struct {
	mu     sync.Mutex
	state  state
	random *rand.Rand
	// refused counts the answers that it gave in the API server's place, by status.
	refused map[int]int
	lost    int
}

// state says what the network does to requests; the shares are between 0 and 1.
type state struct {
	name string
	// conflict, busy and broken are the shares that are answered 409 (of writes), 429 and 500.
	conflict, busy, broken float64
	// lost is the share of writes that are carried out and answered 500.
	lost float64
	// cut is the share of watches that end soon.
	cut float64
	// slow is how late an answer may be.
	slow time.Duration
	// frozen says until when watches tell nothing.
	frozen time.Time
}

// states are what the network may be like.
var states = []state{
	{name: "is good"},
	{name: "is good"},
	{name: "answers 409, 429 and 500", conflict: 0.2, busy: 0.2, broken: 0.2},
	{name: "answers 500 to nearly everything", broken: 0.8},
	{name: "is slow", slow: 1500 * time.Millisecond},
	{name: "loses answers", lost: 0.5},
	{name: "cuts watches", cut: 0.8},
	{name: "shows nothing new", frozen: time.Unix(1, 0)},
}

func newNetwork(seed uint64) *network {
	return &network{random: rand.New(rand.NewPCG(seed, 1)), refused: map[int]int{}}
}

// become changes what the network is like, and says so.
func (n *network) become(s state, frozenFor time.Duration) string {
	if !s.frozen.IsZero() {
		s.frozen = time.Now().Add(frozenFor)
		s.name += " for " + frozenFor.String()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = s
	return "the network " + s.name
}

// fate is what becomes of one request.
type fate struct {
	refuse int // the status of the answer, instead of asking the API server
	lost   bool
	late   time.Duration
	cut    time.Duration
}

func (n *network) fateOf(write, watch bool) fate {
	n.mu.Lock()
	defer n.mu.Unlock()
	hit := func(share float64) bool { return share > 0 && n.random.Float64() < share }
	var f fate
	switch {
	case write && hit(n.state.conflict):
		f.refuse = http.StatusConflict
	case hit(n.state.busy):
		f.refuse = http.StatusTooManyRequests
	case hit(n.state.broken):
		f.refuse = http.StatusInternalServerError
	case write && hit(n.state.lost):
		f.lost = true
		n.lost++
	}
	if f.refuse > 0 {
		n.refused[f.refuse]++
	}
	if n.state.slow > 0 {
		f.late = time.Duration(n.random.Int64N(int64(n.state.slow)))
	}
	if watch && hit(n.state.cut) {
		f.cut = time.Duration(100+n.random.IntN(2000)) * time.Millisecond
	}
	return f
}

func (n *network) frozen() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.frozen
}

// inFrontOf hands to the API server what the network lets through.
func (n *network) inFrontOf(apiServer http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watch := r.URL.Query().Get("watch") == "true"
		write := r.Method != http.MethodGet && r.Method != http.MethodHead
		f := n.fateOf(write, watch)
		linger(r.Context(), f.late)
		switch {
		case f.refuse > 0:
			refuse(w, f.refuse)
		case f.lost:
			apiServer.ServeHTTP(&nowhere{}, r)
			refuse(w, http.StatusInternalServerError)
		case f.cut > 0:
			ctx, cancel := context.WithTimeout(r.Context(), f.cut)
			defer cancel()
			apiServer.ServeHTTP(w, r.WithContext(ctx))
		case watch:
			apiServer.ServeHTTP(&freezing{ResponseWriter: w, network: n, ctx: r.Context()}, r)
		default:
			apiServer.ServeHTTP(w, r)
		}
	})
}

func linger(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// refuse answers as an API server does.
func refuse(w http.ResponseWriter, code int) {
	reason := map[int]metav1.StatusReason{
		http.StatusConflict:            metav1.StatusReasonConflict,
		http.StatusTooManyRequests:     metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
	}[code]
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	// An error means that nobody waits for the answer.
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: fmt.Sprintf("chaos answers %d", code),
	})
}

// freezing is a watch's answer that stands still while the network is frozen.
type freezing struct {
	http.ResponseWriter
	network *network
	ctx     context.Context
}

func (f *freezing) Write(p []byte) (int, error) {
	linger(f.ctx, time.Until(f.network.frozen()))
	return f.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (f *freezing) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// nowhere takes an answer that never arrives.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header {
	if n.header == nil {
		n.header = http.Header{}
	}
	return n.header
}
func (*nowhere) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (*nowhere) WriteHeader(int)             {}
