// Package front stands before a store: it admits only TLS 1.3 clients with a certificate of the
// store's client CA (RFC 8446, RFC 5280), and passes their bytes on.
//
// A client is checked before the store hears of it: no connection to the store is opened, and no
// byte of a login is read, until the handshake has proven the client's certificate.
package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"
)

const (
	// handshakeTimeout ends a client that connects and does not prove who it is.
	handshakeTimeout = 2 * time.Second
	// handshakesMax bounds the clients that have not proven yet who they are: these take no place
	// from those who have.
	handshakesMax = 256
	// dialTimeout ends the wait for a store that does not answer.
	dialTimeout = 3 * time.Second
	// connectionsMax bounds the clients that are served at once; one more is refused.
	connectionsMax = 1024
)

// Files are PEM files; they are read at each handshake, so that new ones need no restart.
type Files struct {
	Certificate string // the own certificate, with intermediates if there are any
	Key         string // its private key
	CA          string // whoever must have signed the other side's certificate
}

// Server admits clients and passes them on.
type Server struct {
	Files      Files
	Protocols  []string // for ALPN (RFC 7301): what the store speaks; none if it knows no ALPN
	HybridOnly bool     // refuse a client that can't do X25519MLKEM768
	Logger     *slog.Logger
	// Dial opens a connection to the store, with the protocol that the client has negotiated.
	Dial func(ctx context.Context, protocol string) (net.Conn, error)
}

// Check tells what is wrong with the files, if anything is.
func (s *Server) Check() error {
	_, err := s.config()
	return err
}

// Serve runs until ctx is done; it closes the listener and every connection.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	proving := make(chan struct{}, handshakesMax)
	places := make(chan struct{}, connectionsMax)
	for {
		connection, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// Such as too many open files: it passes, and a front that ended would not come back.
			s.Logger.Error("accept", "reason", err.Error())
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case proving <- struct{}{}:
			go s.handle(ctx, connection, proving, places)
		default:
			s.refused(connection, errors.New("too many handshakes"))
			_ = connection.Close()
		}
	}
}

func (s *Server) handle(ctx context.Context, raw net.Conn, proving, places chan struct{}) {
	defer raw.Close()
	client, err := s.prove(ctx, raw)
	<-proving
	if err != nil {
		s.refused(raw, err)
		return
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		s.refused(raw, errors.New("too many connections"))
		return
	}
	s.serve(ctx, raw, client)
}

// prove does the handshake: who has no certificate of the CA does not get past it.
func (s *Server) prove(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	client := tls.Server(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.config()
		},
	})
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return client, client.HandshakeContext(limited)
}

func (s *Server) serve(ctx context.Context, raw net.Conn, client *tls.Conn) {
	state := client.ConnectionState()
	who := []any{
		"remote", raw.RemoteAddr().String(),
		"subject", state.PeerCertificates[0].Subject.String(),
		"serial", state.PeerCertificates[0].SerialNumber.Text(16),
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	store, err := s.Dial(dialing, state.NegotiatedProtocol)
	cancel()
	if err != nil {
		s.Logger.Error("store unreachable", append(who, "reason", err.Error())...)
		return
	}
	defer store.Close()
	s.Logger.Info("admitted", append(who,
		"version", tls.VersionName(state.Version),
		"group", state.CurveID.String(),
		"protocol", state.NegotiatedProtocol,
	)...)
	pass(ctx, client, store)
}

// pass copies both ways until one side ends; none of the stores' protocols closes by halves.
func pass(ctx context.Context, client, store net.Conn) {
	ended := make(chan struct{}, 2)
	copyAll := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go copyAll(store, client)
	go copyAll(client, store)
	select {
	case <-ended:
	case <-ctx.Done():
	}
	_ = client.Close()
	_ = store.Close()
}

func (s *Server) refused(connection net.Conn, reason error) {
	s.Logger.Warn("refused", "remote", connection.RemoteAddr().String(), "reason", reason.Error())
}

func (s *Server) config() (*tls.Config, error) {
	certificate, authorities, err := s.Files.load()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authorities,
		NextProtos:   s.Protocols,
		// Each connection proves its certificate anew: one that has expired resumes nothing.
		SessionTicketsDisabled: true,
	}
	if s.HybridOnly {
		config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	}
	return config, nil
}

// TLS gives a Dial to a store that serves TLS at address; files are the front's own as a client.
func TLS(address string, files Files) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, protocol string) (net.Conn, error) {
		certificate, authorities, err := files.load()
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{
			MinVersion:   tls.VersionTLS13,
			ServerName:   host,
			RootCAs:      authorities,
			Certificates: []tls.Certificate{certificate},
		}
		if protocol != "" {
			config.NextProtos = []string{protocol}
		}
		dialer := tls.Dialer{Config: config}
		return dialer.DialContext(ctx, "tcp", address)
	}
}

func (f Files) load() (tls.Certificate, *x509.CertPool, error) {
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("%s, %s: %w", f.Certificate, f.Key, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return tls.Certificate{}, nil, errors.New(f.CA + " holds no certificate")
	}
	return certificate, authorities, nil
}
