package config

import (
	"os"
	"path/filepath"
	"strings"
)

// Dir returns the folder with what an administrator configures: $O7S_CONFIG_DIR,
// else /etc/ouroboros for root, else o7s in the user's configuration folder. It is
// "" where nothing tells: a user without a home.
func Dir() string {
	if dir := os.Getenv("O7S_CONFIG_DIR"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/etc/ouroboros"
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "o7s")
}

// Folder reports whether a name may be a folder's: letters, digits and . _ - alone.
// No other name is ever part of a path.
func Folder(name string) bool {
	return name != "" && name != "." && name != ".." &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// The files of a name, in security/server/NAME or security/client/NAME.
const (
	EncFile = "enc.conf"
	CrtFile = "crt.pem"
	KeyFile = "key.pem"
)
