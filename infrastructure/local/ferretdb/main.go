// Command ferretdb serves one MongoDB-compatible database from a directory of SQLite files,
// as the local stand-in for one MongoDB Atlas cluster.
//
// FerretDB's own command lacks a generated version file when it is taken from the Go module
// proxy, so this is a main of our own on its embeddable package. FerretDB's TLS would take TLS 1.2
// too, so it listens on a socket in its private directory, with the front before it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"

	"love.local/front"
)

// socket is relative, since the path of a socket may have only some hundred bytes (unix(7)).
const socket = "ferretdb.socket"

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

// serve runs until SIGINT or SIGTERM; a second signal ends the process at once.
func serve() error {
	data := flag.String("data", "", "directory of the SQLite files; made if absent")
	listen := flag.String("listen", "", "TLS address, host:port; the host must be a loopback address")
	certificate := flag.String("tls-cert", "", "PEM file of the server's certificate")
	key := flag.String("tls-key", "", "PEM file of the server's private key")
	clientCA := flag.String("tls-client-ca", "", "PEM file of the CA that must have signed each client's certificate")
	flag.Parse()

	for name, value := range map[string]*string{
		"data": data, "listen": listen, "tls-cert": certificate, "tls-key": key, "tls-client-ca": clientCA,
	} {
		if *value == "" {
			return errors.New("missing -" + name)
		}
		if name == "listen" {
			continue
		}
		// Relative to where we were started, which is left below.
		path, err := filepath.Abs(*value)
		if err != nil {
			return err
		}
		*value = path
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	before := front.Server{
		Files:  front.Files{Certificate: *certificate, Key: *key, CA: *clientCA},
		Logger: logger,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}
	if err := before.Check(); err != nil {
		return err
	}
	// Whoever could open the socket would need no certificate.
	syscall.Umask(0o077)
	if err := os.MkdirAll(*data, 0o700); err != nil {
		return err
	}
	if err := os.Chdir(*data); err != nil {
		return err
	}
	// What a server that was killed has left.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// FerretDB wants a URI whose path is a directory, told by the closing slash.
	sqlite := url.URL{Scheme: "file", Path: *data + "/"}
	server, err := ferretdb.New(&ferretdb.Config{
		Handler:   "sqlite",
		SQLiteURL: sqlite.String(),
		Logger:    logger,
		Listener:  ferretdb.ListenerConfig{Unix: socket},
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from here on a second signal has its default effect
	}()
	go func() { _ = before.Serve(ctx, listener) }()
	return server.Run(ctx)
}
