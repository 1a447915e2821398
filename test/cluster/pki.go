// Copyright The Fullmesh Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
)

// authority signs a cluster's certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	a := &authority{}
	template := certificate("fullmesh-test-cluster")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	pair, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	a.key = pair.key
	a.cert, err = x509.ParseCertificate(pair.der)
	return a, err
}

// keyPair is a certificate and its key.
type keyPair struct {
	der []byte
	key *ecdsa.PrivateKey
}

func certificate(name string, groups ...string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

// sign makes a key and signs its certificate; without a certificate of its own
// yet, the authority's is signed with its own key.
func (a *authority) sign(template *x509.Certificate) (*keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	return &keyPair{der: der, key: key}, nil
}

func (p *keyPair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.der})
}

func (p *keyPair) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (a *authority) certPEM() []byte {
	return (&keyPair{der: a.cert.Raw}).certPEM()
}

// pki is what the API servers read from files.
type pki struct {
	ca, serverCert, serverKey, tokenCert, tokenKey string
}

// writePKI makes the API servers' certificate and the key that signs
// ServiceAccount tokens, and writes both into dir.
func (a *authority) writePKI(dir string) (pki, error) {
	files := pki{
		ca:         filepath.Join(dir, "ca.crt"),
		serverCert: filepath.Join(dir, "apiserver.crt"),
		serverKey:  filepath.Join(dir, "apiserver.key"),
		tokenCert:  filepath.Join(dir, "service-account.crt"),
		tokenKey:   filepath.Join(dir, "service-account.key"),
	}
	template := certificate("kube-apiserver")
	template.DNSNames = []string{"localhost", "kubernetes.default.svc"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	server, err := a.sign(template)
	if err != nil {
		return pki{}, err
	}
	serverKey, err := server.keyPEM()
	if err != nil {
		return pki{}, err
	}
	tokens, err := a.sign(certificate("service-account-tokens"))
	if err != nil {
		return pki{}, err
	}
	tokensKey, err := tokens.keyPEM()
	if err != nil {
		return pki{}, err
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return pki{}, err
	}
	for path, content := range map[string][]byte{
		files.ca:         a.certPEM(),
		files.serverCert: server.certPEM(),
		files.serverKey:  serverKey,
		files.tokenCert:  tokens.certPEM(),
		files.tokenKey:   tokensKey,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return pki{}, err
		}
	}
	return files, nil
}

// user is a client configuration that authenticates with a certificate.
func (a *authority) user(host, name string, groups ...string) (*rest.Config, error) {
	pair, err := a.sign(certificate(name, groups...))
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	key, err := pair.keyPEM()
	if err != nil {
		return nil, fmt.Errorf("encoding the key of %s: %w", name, err)
	}
	return &rest.Config{
		Host: host,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   a.certPEM(),
			CertData: pair.certPEM(),
			KeyData:  key,
		},
		// A test waits for the cluster, not for its own client.
		QPS: -1,
	}, nil
}
