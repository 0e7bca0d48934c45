package irmd

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// names is a pager of a list of n names, with the count of the lists made.
func names(n int) (p *pager[view.Name], all []view.Name, made *int) {
	for i := range n {
		all = append(all, view.Name{Name: fmt.Sprintf("name-%06d", i), Policy: "spillover"})
	}
	made = new(int)
	return &pager[view.Name]{list: func() []view.Name { *made++; return all }}, all, made
}

// next returns the page of l after the rows that it has got.
func next(t *testing.T, p *pager[view.Name], l *rpc.Link, got []view.Name) irmctl.Rows[view.Name] {
	t.Helper()
	after := ""
	if len(got) > 0 {
		after = got[len(got)-1].Key()
	}
	page := p.page(l, after)
	if n := rpc.Size(&page); n > rpc.MaxMessage-100 {
		t.Fatalf("a page of %d bytes", n)
	}
	if page.More && len(page.List) == 0 {
		t.Fatal("pages do not get on")
	}
	return page
}

// TestPagesAreOfOneList: two links that ask in turn get all rows, in messages, and
// one list is made for each.
func TestPagesAreOfOneList(t *testing.T) {
	p, all, made := names(20000)
	links := [2]*rpc.Link{new(rpc.Link), new(rpc.Link)}
	var got [2][]view.Name
	for more := [2]bool{true, true}; more[0] || more[1]; {
		for i, l := range links {
			if more[i] {
				page := next(t, p, l, got[i])
				got[i], more[i] = append(got[i], page.List...), page.More
			}
		}
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], all) {
			t.Errorf("link %d: %d of %d rows, or other ones", i, len(got[i]), len(all))
		}
	}
	if *made != len(links) || len(p.begun) != 0 {
		t.Errorf("%d lists made for %d links, %d kept", *made, len(links), len(p.begun))
	}
}

// TestPagesGoOnWithoutTheirList: the rest of a list is kept for some time, and of
// so many links. Later pages are of a new list.
func TestPagesGoOnWithoutTheirList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, all, made := names(4000)
		l := new(rpc.Link)
		got := next(t, p, l, nil).List
		time.Sleep(restTime)
		synctest.Wait()
		if len(p.begun) != 0 {
			t.Errorf("%d lists are kept for ever", len(p.begun))
		}
		got = append(got, next(t, p, l, got).List...)
		for range maxRests {
			p.page(new(rpc.Link), "")
		}
		if len(p.begun) != maxRests {
			t.Errorf("%d lists are kept, want %d", len(p.begun), maxRests)
		}
		for len(got) < len(all) {
			got = append(got, next(t, p, l, got).List...)
		}
		if !reflect.DeepEqual(got, all) {
			t.Errorf("%d of %d rows, or other ones", len(got), len(all))
		}
		if want := 1 + 1 + maxRests + 1; *made != want {
			t.Errorf("%d lists made, want %d", *made, want)
		}
		time.Sleep(restTime)
	})
}
