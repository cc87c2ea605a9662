// Goroutines in a row: each hands on what it gets once a timer of its own has gone off. What comes out is added.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"
)

const row = 300

func hand(from <-chan int, to chan<- int, ticks <-chan time.Time) {
	for n := range from {
		<-ticks
		to <- n
	}
}

// What is not needed for long is collected beside the others.
func litter() {
	for kept := [][]byte{}; ; kept = append(kept[len(kept)/2:], make([]byte, 1<<16)) {
		time.Sleep(time.Millisecond)
	}
}

func main() {
	first := make(chan int)
	last := first
	for i := 0; i < row; i++ {
		next := make(chan int)
		go hand(last, next, time.NewTicker(time.Duration(1+i%3)*time.Millisecond).C)
		last = next
	}
	go litter()
	sum := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, _ := strconv.Atoi(lines.Text())
		first <- n
		sum += <-last
		fmt.Println("sum", sum)
	}
	os.Exit(5)
}
