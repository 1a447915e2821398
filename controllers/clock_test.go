package controllers

import (
	"net/http"
	"testing"
	"time"
)

// dated answers after a while, as of a moment by a clock that is so far ahead.
type dated struct {
	local  *time.Time
	after  time.Duration
	ahead  time.Duration
	status int
}

func (d dated) RoundTrip(*http.Request) (*http.Response, error) {
	*d.local = d.local.Add(d.after / 2)
	response := &http.Response{StatusCode: d.status, Body: http.NoBody, Header: http.Header{}}
	response.Header.Set("Date", d.local.Add(d.ahead).UTC().Format(http.TimeFormat))
	*d.local = d.local.Add(d.after / 2)
	return response, nil
}

func TestTheClockIsThatOfTheAPIServer(t *testing.T) {
	const second = time.Second
	for name, test := range map[string]struct {
		answers []dated
		// The offset has to be in between; said is how often the log tells of it.
		least, most time.Duration
		said        int
	}{
		"clocks that agree":                        {[]dated{{ahead: 0, after: second, status: 200}}, 0, 0, 0},
		"less than a date tells":                   {[]dated{{ahead: second / 4, after: second / 2, status: 200}}, 0, 0, 0},
		"the API server is ahead":                  {[]dated{{ahead: 360 * second, status: 200}}, 359 * second, 360 * second, 1},
		"the API server is behind":                 {[]dated{{ahead: -360 * second, status: 200}}, -360 * second, -359 * second, 1},
		"it stays so":                              {[]dated{{ahead: 360 * second, status: 200}, {ahead: 360 * second, status: 200}}, 359 * second, 360 * second, 1},
		"it is set right":                          {[]dated{{ahead: 360 * second, status: 200}, {status: 200}}, 0, second, 2},
		"a slow answer tells little":               {[]dated{{ahead: 5 * second, after: 20 * second, status: 200}}, 0, 0, 0},
		"a little is not worth saying":             {[]dated{{ahead: 30 * second, status: 200}}, 29 * second, 30 * second, 0},
		"whoever stands between has its own":       {[]dated{{ahead: 360 * second, status: 502}}, 0, 0, 0},
		"an answer that is quick after a slow one": {[]dated{{ahead: 50 * second, after: 20 * second, status: 200}, {ahead: 50 * second, after: second / 10, status: 200}}, 49 * second, 51 * second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			local := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
			said := 0
			c := newServerClock(func() time.Time { return local }, func(time.Duration) { said++ })
			for _, answer := range test.answers {
				answer.local = &local
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://cluster/", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := c.Wrap(answer).RoundTrip(request)
				if err != nil || response.StatusCode != answer.status {
					t.Errorf("the answer became %v, %v", response, err)
				}
			}
			if offset := c.now().Sub(local); offset < test.least || offset > test.most || said != test.said {
				t.Errorf("it is ahead by %s, which was said %d times; should be %s to %s, and %d", offset, said, test.least, test.most, test.said)
			}
		})
	}
}
