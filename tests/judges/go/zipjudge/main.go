// Command zipjudge writes out one member of a ZIP file, as Go's standard library finds it.
package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: zipjudge ARCHIVE.zip MEMBER")
		os.Exit(64)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(path, name string) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	member, err := archive.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, member)
	return err
}
