// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"k8s.io/client-go/tools/clientcmd"
)

// Front is an address in front of the first API server. What is sent to it reaches the API server
// only through a handler of the test's own.
type Front struct {
	listener net.Listener
	server   *http.Server
}

// StartFront opens a front. What wrap returns answers every request, and hands those to apiServer
// that are to reach it. While no API server runs, apiServer answers "bad gateway".
func (c *Cluster) StartFront(wrap func(apiServer http.Handler) http.Handler) (*Front, error) {
	target, err := url.Parse(c.host(0))
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(c.authority.cert)
	quiet := log.New(io.Discard, "", 0)
	apiServer := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: trusted},
			ForceAttemptHTTP2: true,
		},
		// A watch is handed on event by event.
		FlushInterval: -1,
		ErrorLog:      quiet,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &Front{
		listener: listener,
		server:   &http.Server{Handler: wrap(apiServer), ErrorLog: quiet},
	}
	go func() {
		// The certificate is the API servers' own: it is for every port of 127.0.0.1.
		_ = f.server.ServeTLS(listener, c.pki.serverCert, c.pki.serverKey)
	}()
	return f, nil
}

// Kubeconfig writes a copy of a kubeconfig that leads through the front, and returns its path.
func (f *Front) Kubeconfig(of string) (string, error) {
	kubeconfig, err := clientcmd.LoadFromFile(of)
	if err != nil {
		return "", fmt.Errorf("reading kubeconfig %s: %w", of, err)
	}
	for _, server := range kubeconfig.Clusters {
		server.Server = "https://" + f.listener.Addr().String()
	}
	_, port, err := net.SplitHostPort(f.listener.Addr().String())
	if err != nil {
		return "", err
	}
	path := of + ".front-" + port // there may be several
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return "", fmt.Errorf("writing kubeconfig %s: %w", path, err)
	}
	return path, nil
}

// Close ends the front and every request that goes through it.
func (f *Front) Close() error {
	err := f.server.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
