// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/otelwarden/warden/internal/keeper"
)

// account finds the user of a process; nil if none is configured, or one of which no
// more than the id is known.
func (p *ProcessConfig) account() (*user.User, error) {
	if p.User == "" {
		return nil, nil
	}
	if _, err := parseID(p.User); err == nil {
		if found, err := user.LookupId(p.User); err == nil {
			return found, nil
		}
		return nil, nil
	}
	found, err := user.Lookup(p.User)
	if err != nil {
		return nil, fmt.Errorf("user %q is not in /etc/passwd: add it, or write its number and a group", p.User)
	}
	return found, nil
}

// credential is whom a process runs as, looked up anew for every start; nil: as the
// collector.
func (p *ProcessConfig) credential() (*keeper.Credential, error) {
	if p.User == "" && p.Group == "" && p.SupplementaryGroups == nil {
		return nil, nil
	}
	account, err := p.account()
	if err != nil {
		return nil, err
	}
	c := &keeper.Credential{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	var usual []string // supplementary groups
	switch {
	case account != nil:
		if c.UID, err = parseID(account.Uid); err != nil {
			return nil, err
		}
		if c.GID, err = parseID(account.Gid); err != nil {
			return nil, err
		}
		if usual, err = account.GroupIds(); err != nil {
			return nil, fmt.Errorf("groups of user %q: %w", p.User, err)
		}
	case p.User != "":
		if c.UID, err = parseID(p.User); err != nil {
			return nil, err
		}
		if p.Group == "" {
			return nil, fmt.Errorf("user %s is not in /etc/passwd, so its group is not known: give a group too", p.User)
		}
	default:
		own, err := os.Getgroups()
		if err != nil {
			return nil, fmt.Errorf("the collector's groups: %w", err)
		}
		for _, id := range own {
			usual = append(usual, strconv.Itoa(id))
		}
	}
	if p.Group != "" {
		if c.GID, err = groupID(p.Group); err != nil {
			return nil, err
		}
	}
	if p.SupplementaryGroups != nil {
		usual = p.SupplementaryGroups
	}
	for _, name := range usual {
		id, err := groupID(name)
		if err != nil {
			return nil, err
		}
		c.Groups = append(c.Groups, id)
	}
	return c, nil
}

func groupID(name string) (uint32, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	found, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group %q is not in /etc/group: add it, or write its number", name)
	}
	return parseID(found.Gid)
}

// parseID reads the number of a user or a group. The greatest stands for none.
func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == 1<<32-1 {
		return 0, fmt.Errorf("%q is no id", text)
	}
	return uint32(id), nil
}

// loginVariables are what a login would set of an account. A process that is given a
// user gets them, and not those of the collector's.
func (p *ProcessConfig) loginVariables() (map[string]string, error) {
	account, err := p.account()
	if account == nil {
		return nil, err
	}
	return map[string]string{"HOME": account.HomeDir, "USER": account.Username, "LOGNAME": account.Username}, nil
}
