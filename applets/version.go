package applets

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the version of every applet.
const Version = "0.2.0"

// VersionLine returns what --version of every applet prints: its name, the version,
// the commit where the build knows it, and what it was built with and for.
func VersionLine(name string) string { return fmt.Sprintf("%s version %s", name, build()) }

// build returns the version, and what the build was made of.
func build() string {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		commit = commitOf(info.Settings)
	}
	return fmt.Sprintf("%s (%s%s %s/%s)", Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commitOf returns the commit that settings name, with a comma; "" where they name
// none, as those of a build without the repository.
func commitOf(settings []debug.BuildSetting) string {
	commit, changed := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	if commit == "" {
		return ""
	}
	return "commit " + commit + changed + ", "
}
