//go:build tools

// Names the programs that tests/tools/tessera.py builds, so that go.mod and go.sum fix them.
package tools

import _ "github.com/transparency-dev/tessera/cmd/fsck"
