module trainyard.dev/tests/cluster/build/pause

go 1.25.0
