package controllers

import (
	"net/http"
	"sync"
	"time"
)

// worthSaying is how far the clock of this machine has to be off for it to be said.
const worthSaying = time.Minute

// serverClock is that of the API server, as far as its answers tell: the one by which objects are dated, and by
// which every replica of Fullmesh goes, however far the clocks of their machines are apart.
type serverClock struct {
	// local is the clock of this machine.
	local func() time.Time
	// moved is told by how much it is found to be off, if that is a lot.
	moved func(by time.Duration)

	mu     sync.Mutex
	offset time.Duration
}

func newServerClock(local func() time.Time, moved func(by time.Duration)) *serverClock {
	return &serverClock{local: local, moved: moved}
}

func (c *serverClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.local().Add(c.offset)
}

// Wrap looks at the answers that come through a transport.
func (c *serverClock) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		sent := c.local()
		response, err := next.RoundTrip(request)
		if err != nil || response.StatusCode >= http.StatusMultipleChoices { // by whoever stands between
			return response, err
		}
		if date, parsed := http.ParseTime(response.Header.Get("Date")); parsed == nil {
			c.note(sent, date, c.local())
		}
		return response, nil
	})
}

// note takes in that it was some moment of the second of date at some time after sent and before received. The
// clock moves no further than that proves it wrong.
func (c *serverClock) note(sent, date, received time.Time) {
	c.mu.Lock()
	was := c.offset
	c.offset = min(max(c.offset, date.Sub(received)), date.Add(time.Second).Sub(sent))
	by := c.offset - was
	c.mu.Unlock()
	if by.Abs() >= worthSaying {
		c.moved(by)
	}
}
