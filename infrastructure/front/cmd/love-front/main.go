// Command love-front demands a client certificate in front of a store that serves TLS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"love.local/front"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "love-front:", err)
		os.Exit(1)
	}
}

// serve runs until SIGINT or SIGTERM; a second signal ends the process at once.
func serve() error {
	listen := flag.String("listen", "", "address that clients come to, host:port")
	certificate := flag.String("cert", "", "PEM file of the front's certificate as a server")
	key := flag.String("key", "", "PEM file of its private key")
	clientCA := flag.String("client-ca", "", "PEM file of the CA that must have signed each client's certificate")
	store := flag.String("store", "", "address of the store, host:port; it must serve TLS 1.3")
	storeCA := flag.String("store-ca", "", "PEM file of the CA that must have signed the store's certificate")
	storeCertificate := flag.String("store-cert", "", "PEM file of the certificate that the front shows to the store")
	storeKey := flag.String("store-key", "", "PEM file of its private key")
	alpn := flag.String("alpn", "h2,http/1.1", "protocols that the store speaks, by their ALPN names")
	hybridOnly := flag.Bool("hybrid-only", false, "refuse clients without the key exchange X25519MLKEM768")
	flag.Parse()

	needed := []struct{ name, value string }{
		{"listen", *listen}, {"cert", *certificate}, {"key", *key}, {"client-ca", *clientCA},
		{"store", *store}, {"store-ca", *storeCA}, {"store-cert", *storeCertificate}, {"store-key", *storeKey},
	}
	var missing []string
	for _, each := range needed {
		if each.value == "" {
			missing = append(missing, "-"+each.name)
		}
	}
	if missing != nil {
		return errors.New("missing " + strings.Join(missing, ", "))
	}
	server := front.Server{
		Files:      front.Files{Certificate: *certificate, Key: *key, CA: *clientCA},
		Protocols:  strings.FieldsFunc(*alpn, func(r rune) bool { return r == ',' }),
		HybridOnly: *hybridOnly,
		Logger:     slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		Dial:       front.TLS(*store, front.Files{Certificate: *storeCertificate, Key: *storeKey, CA: *storeCA}),
	}
	if err := server.Check(); err != nil {
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
	return server.Serve(ctx, listener)
}
