// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below the range that Linux uses for outgoing
// connections (32768 and up), or any client on the machine could take a port
// between our choice and its use.
const firstPort, lastPort = 12000, 32000

var portsInUse sync.Map

// freePort chooses a port of 127.0.0.1 that nothing listens on and that this
// process has not chosen before. Another process may still take it before it
// is used: see part.start.
func freePort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, chosen := portsInUse.LoadOrStore(port, true); chosen {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return port, nil
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// loopback is the address of a port on this machine.
func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
