// Copyright The Warden Authors
// SPDX-License-Identifier: Apache-2.0

package supervisorextension

import (
	"io"
	"maps"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configopaque"
	"go.opentelemetry.io/collector/confmap"
)

// Config is the extension's configuration as it takes effect: included files are
// read, and every process has its defaults. It is decoded by Unmarshal, which
// reports all findings together.
type Config struct {
	// RuntimeDirectory is an absolute path for what has to be found again by the next
	// collector: the socket of the keeper. "": a directory of the component's own.
	RuntimeDirectory string `mapstructure:"runtime_directory"`
	// OrphanGrace is how long the processes outlive a lost collector: 0 not at all,
	// WaitForever for ever.
	OrphanGrace time.Duration `mapstructure:"orphan_grace"`
	// ShutdownTimeout bounds the whole tree's stop and the delivery of what the
	// processes said last. More than 0.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	// OnGiveUp says what becomes of the collector once the root has given up.
	OnGiveUp OnGiveUp `mapstructure:"on_give_up"`
	// Include are globs of YAML files, each a list of children. What they held is
	// already in Children.
	Include []string `mapstructure:"include"`
	// SupervisorConfig is the root.
	SupervisorConfig `mapstructure:",squash"`

	// validating is where Validate tells its warnings, nil: nowhere. A start tells them
	// in the log.
	validating io.Writer
	// machine is where the processes are to run, for the warnings; nil: here.
	machine *machine
	// findings are what Unmarshal could not take; Validate returns them.
	findings findings
	// warnings are what Unmarshal saw in the text and the values no longer tell.
	warnings []string
}

// SupervisorConfig is the root, or a supervisor below it.
type SupervisorConfig struct {
	// Strategy says which siblings are restarted together with a child that failed.
	Strategy Strategy `mapstructure:"strategy"`
	// Intensity is how many restarts are allowed before the supervisor gives up.
	Intensity Intensity `mapstructure:"intensity"`
	// AutoShutdown says when the supervisor ends because significant children did.
	AutoShutdown AutoShutdown `mapstructure:"auto_shutdown"`
	// FirstStart says what a child that fails its first start means.
	FirstStart FirstStart `mapstructure:"first_start"`
	// Parallel starts all children together and stops them together; with
	// StrategyOneForOne only.
	Parallel bool `mapstructure:"parallel"`
	// Defaults are the process keys given for all processes below, on top of those
	// of the supervisors above; already applied, and kept for showing only.
	Defaults map[string]any `mapstructure:"defaults"`
	// Children in start order; they stop in reverse.
	Children []ChildConfig `mapstructure:"children"`

	// base is a process with the defaults that hold here; nil if Defaults is.
	base *ChildConfig
}

// ChildConfig is one entry of a supervisor's list: exactly one of Process and
// Supervisor is set.
type ChildConfig struct {
	// Name is unique among the siblings. The child's id is the names from below the
	// root down to it, joined by ".".
	Name string `mapstructure:"name"`
	// Restart is the rule after an end that nobody asked for.
	Restart RestartPolicy `mapstructure:"restart"`
	// Significant children take part in their supervisor's AutoShutdown.
	Significant bool    `mapstructure:"significant"`
	Backoff     Backoff `mapstructure:"backoff"`

	Process    *ProcessConfig    `mapstructure:",squash"`
	Supervisor *SupervisorConfig `mapstructure:",squash"`

	// origin tells where the child was written; nil for one built in Go.
	origin *origin
}

var (
	_ component.Config    = (*Config)(nil)
	_ confmap.Unmarshaler = (*Config)(nil)
	_ confmap.Validator   = (*Config)(nil)
)

// newDefaultConfig returns a root without children.
func newDefaultConfig() *Config {
	return &Config{
		OrphanGrace:      30 * time.Second,
		ShutdownTimeout:  25 * time.Second,
		OnGiveUp:         GiveUpExit,
		SupervisorConfig: newDefaultSupervisor(),
	}
}

func newDefaultSupervisor() SupervisorConfig {
	return SupervisorConfig{
		Strategy:     StrategyOneForOne,
		Intensity:    Intensity{MaxRestarts: 10, Period: 5 * time.Minute},
		AutoShutdown: AutoShutdownNever,
		FirstStart:   FirstStartStrict,
	}
}

// newDefaultChild returns what a process and a supervisor have in common, and
// lacks only its name and what it is.
func newDefaultChild() ChildConfig {
	return ChildConfig{
		Restart: RestartPermanent,
		Backoff: Backoff{
			InitialInterval: 500 * time.Millisecond,
			Multiplier:      2,
			MaxInterval:     time.Minute,
			Jitter:          0.2,
			ResetAfter:      time.Minute,
		},
	}
}

// newDefaultProcess returns a process that lacks only its name and its command.
func newDefaultProcess() ChildConfig {
	c := newDefaultChild()
	c.Process = &ProcessConfig{
		Success:            SuccessList{Codes: []int{0}},
		Autostart:          true,
		InheritEnvironment: InheritEnvironment{All: true},
		StartTimeout:       time.Minute,
		Stop:               StopConfig{Signal: syscall.SIGTERM, Timeout: 10 * time.Second, Scope: StopScopeTree},
		Output:             newDefaultOutput(),
		PropagateTelemetry: true,
	}
	return c
}

// OnGiveUp is what happens once the root supervisor has given up.
type OnGiveUp string

const (
	// GiveUpExit ends the collector with a status that is not 0.
	GiveUpExit OnGiveUp = "exit"
	// GiveUpStay leaves the collector up, with a recoverable status and the processes down.
	GiveUpStay OnGiveUp = "stay"
)

// FirstStart is what a child that fails its first start means.
type FirstStart string

const (
	// FirstStartStrict is OTP's: what is up is stopped and the start fails.
	FirstStartStrict FirstStart = "strict"
	// FirstStartRetry counts it as a crash; later siblings wait.
	FirstStartRetry FirstStart = "retry"
)

// Strategy is OTP's restart strategy.
type Strategy string

const (
	// StrategyOneForOne restarts the child that failed.
	StrategyOneForOne Strategy = "one_for_one"
	// StrategyOneForAll restarts all children with it.
	StrategyOneForAll Strategy = "one_for_all"
	// StrategyRestForOne restarts those after it in the list with it.
	StrategyRestForOne Strategy = "rest_for_one"
)

// AutoShutdown says when a supervisor ends because of significant children that
// ended by themselves and are not to be restarted.
type AutoShutdown string

const (
	AutoShutdownNever AutoShutdown = "never"
	// AutoShutdownAnySignificant: when the first of them ends.
	AutoShutdownAnySignificant AutoShutdown = "any_significant"
	// AutoShutdownAllSignificant: when the last one that runs ends.
	AutoShutdownAllSignificant AutoShutdown = "all_significant"
)

// Intensity allows MaxRestarts restarts within any Period.
type Intensity struct {
	MaxRestarts int           `mapstructure:"max_restarts"`
	Period      time.Duration `mapstructure:"period"`
}

// ProcessConfig is what only a process has.
type ProcessConfig struct {
	// Command is the argument vector, never given to a shell; not empty.
	Command []string `mapstructure:"command"`
	// Success lists the ends that mean "ended well".
	Success SuccessList `mapstructure:"success"`
	// Autostart false: down until an operator starts it.
	Autostart bool `mapstructure:"autostart"`
	// Template: not a process but a supervisor of its own, whose instances are started
	// one by one, by an operator, and stopped together. All other keys are theirs.
	Template bool `mapstructure:"template"`
	// Environment is added to what is inherited and read from EnvironmentFiles, and wins over both.
	Environment map[string]configopaque.String `mapstructure:"environment"`
	// EnvironmentFiles hold KEY=value lines and are read again at every start.
	EnvironmentFiles []string `mapstructure:"environment_files"`
	// InheritEnvironment says which of the collector's variables are passed on.
	InheritEnvironment InheritEnvironment `mapstructure:"inherit_environment"`
	// WorkingDirectory is the collector's own if empty.
	WorkingDirectory string `mapstructure:"working_directory"`
	// StartTimeout bounds the time from spawn to ready. 0: no limit.
	StartTimeout time.Duration `mapstructure:"start_timeout"`
	// Readiness nil: ready once executed.
	Readiness *Readiness `mapstructure:"readiness"`
	// Liveness nil: working as long as it runs.
	Liveness *Liveness  `mapstructure:"liveness"`
	Stop     StopConfig `mapstructure:"stop"`
	// Reload is what the verb of that name does; neither of its keys: nothing.
	Reload ReloadConfig `mapstructure:"reload"`
	Output OutputConfig `mapstructure:"output"`

	// ServiceName is the process's id if empty.
	ServiceName string `mapstructure:"service_name"`
	// ResourceAttributes are on everything that is reported of the process. They are
	// texts, since that is what they are in its environment: a number here and its text
	// there would be two resources.
	ResourceAttributes map[string]string `mapstructure:"resource_attributes"`
	// PropagateTelemetry tells the process by its environment what its own telemetry is
	// to be reported as, and where to.
	PropagateTelemetry bool `mapstructure:"propagate_telemetry"`

	// User and Group are names or ids, "": the collector's.
	User  string `mapstructure:"user"`
	Group string `mapstructure:"group"`
	// SupplementaryGroups are names or ids. nil: those of User, and without one the
	// collector's; empty: none.
	SupplementaryGroups []string `mapstructure:"supplementary_groups"`
	// Umask nil: the collector's.
	Umask *Umask `mapstructure:"umask"`
	// Limits are the collector's where they are not given.
	Limits Limits `mapstructure:"limits"`
	// Nice is from -20 to 19, nil: the collector's.
	Nice *int `mapstructure:"nice"`
	// OOMScoreAdj is from -1000 to 1000, nil: the collector's.
	OOMScoreAdj *int `mapstructure:"oom_score_adj"`
	// NoNewPrivileges: neither the program nor what it starts gains rights by executing a file.
	NoNewPrivileges bool         `mapstructure:"no_new_privileges"`
	Cgroup          CgroupConfig `mapstructure:"cgroup"`

	// instances is how many siblings this one was written for; of those it is the
	// one numbered instance. 0: it was written for itself.
	instances, instance int
}

func (c *ChildConfig) isTemplate() bool { return c.Process != nil && c.Process.Template }

// clone shares nothing with c that may change. c is a process.
func (c *ChildConfig) clone() ChildConfig {
	child, p := *c, *c.Process
	p.Command = slices.Clone(p.Command)
	p.Success = SuccessList{Codes: slices.Clone(p.Success.Codes), Signals: slices.Clone(p.Success.Signals)}
	p.Environment = maps.Clone(p.Environment)
	p.EnvironmentFiles = slices.Clone(p.EnvironmentFiles)
	p.InheritEnvironment.Names = slices.Clone(p.InheritEnvironment.Names)
	p.Readiness, p.Liveness = p.Readiness.clone(), p.Liveness.clone()
	p.ResourceAttributes = maps.Clone(p.ResourceAttributes)
	p.unshareRights()
	p.Output.unshare()
	child.Process = &p
	return child
}

// RestartPolicy is OTP's restart type.
type RestartPolicy string

const (
	RestartPermanent RestartPolicy = "permanent"
	RestartTransient RestartPolicy = "transient"
	RestartTemporary RestartPolicy = "temporary"
)

// SuccessList are the exit codes (0 to 255) and signals that mean "ended well".
type SuccessList struct {
	Codes   []int            `mapstructure:"codes"`
	Signals []syscall.Signal `mapstructure:"signals"`
}

// InheritEnvironment is all of the collector's environment, or the named
// variables of it; neither means none.
type InheritEnvironment struct {
	All   bool     `mapstructure:"all"`
	Names []string `mapstructure:"names"`
}

// StopConfig is how a process is asked to end.
type StopConfig struct {
	// Signal goes to all of the Scope, SIGCONT follows.
	Signal syscall.Signal `mapstructure:"signal"`
	// Timeout is the grace before KILL. 0 kills at once, negative waits for ever.
	Timeout time.Duration `mapstructure:"timeout"`
	// Scope is what is stopped with the process.
	Scope StopScope `mapstructure:"scope"`
	// Command is run first, as the process is; nil: none.
	Command []string `mapstructure:"command"`
}

// Backoff is the delay before the restarts of a row.
type Backoff struct {
	// InitialInterval is the delay of the second restart in a row, the first being
	// immediate. 0: every restart is immediate.
	InitialInterval time.Duration `mapstructure:"initial_interval"`
	Multiplier      float64       `mapstructure:"multiplier"`
	MaxInterval     time.Duration `mapstructure:"max_interval"`
	// Jitter spreads a delay by this share of it, either way. 0 to 1.
	Jitter float64 `mapstructure:"jitter"`
	// ResetAfter is how long a run has to last to end the row.
	ResetAfter time.Duration `mapstructure:"reset_after"`
}
