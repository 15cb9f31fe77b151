// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"syscall"
)

// What the two sides have open besides what belongs to runs: in the keeper its
// socket, its clients, and the pipes of runs that are being started; in this process,
// with some reserve, what all of its components open.
const (
	keeperDescriptors = 64
	clientDescriptors = 256
)

// Budget returns an error if so many processes, with so many pipes and held descriptors
// all together, need more descriptors than the keeper or this process may have open.
func Budget(processes, descriptors int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	return budget(processes, descriptors, limit.Max)
}

func budget(processes, descriptors int, limit uint64) error {
	client := clientDescriptors + descriptors
	keeper := keeperDescriptors + descriptors + processes // one stands for the process
	if uint64(max(client, keeper)) <= limit {
		return nil
	}
	return errorf("%d processes with %d pipes and sockets need %d open files in their keeper and %d in the collector, and the limit is %d: raise the hard limit (LimitNOFILE= of a unit, --ulimit nofile= of a container), capture fewer streams, or divide the processes among several supervisors",
		processes, descriptors, keeper, client, limit)
}
