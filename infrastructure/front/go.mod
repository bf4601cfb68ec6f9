// The front: mutual TLS 1.3 for a store that does not insist on it by itself.
module love.local/front

go 1.25
