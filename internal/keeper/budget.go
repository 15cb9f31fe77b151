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
// all together, need more descriptors than this process may have open, or than their
// keeper may, whose limit is State.OpenFiles; 0: it is to be started, with this one's.
func Budget(processes, descriptors int, keeper uint64) error {
	own, err := openFilesLimit()
	if err != nil {
		return err
	}
	return budget(processes, descriptors, own, keeper)
}

// openFilesLimit is how many descriptors this process may have open.
func openFilesLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return limit.Max, nil
}

func budget(processes, descriptors int, own, keeper uint64) error {
	needsOwn := clientDescriptors + descriptors
	needsKeeper := keeperDescriptors + descriptors + processes // one stands for the process
	if keeper != 0 && keeper < own && uint64(needsKeeper) > keeper {
		return errorf("%d processes with %d pipes and sockets need %d open files in their keeper, and the one that runs was started with a limit of %d, which it keeps: nothing was changed; let it end (SIGTERM while no collector is attached, or after orphan_grace) so that the next start makes one with the limit of now, %d",
			processes, descriptors, needsKeeper, keeper, own)
	}
	if uint64(max(needsOwn, needsKeeper)) <= own {
		return nil
	}
	return errorf("%d processes with %d pipes and sockets need %d open files in their keeper and %d in the collector, and the limit is %d: raise the hard limit (LimitNOFILE= of a unit, --ulimit nofile= of a container), capture fewer streams, or divide the processes among several supervisors",
		processes, descriptors, needsKeeper, needsOwn, own)
}
