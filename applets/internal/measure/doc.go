// Package measure is what the tools that measure flows share: pace, sequence
// numbers, statistics, histograms, units, and lines for people and programs.
// It knows no tool's messages.
package measure
