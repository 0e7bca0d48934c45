package irm

import (
	"slices"

	"o7s/core/ipcp"
)

// newRoot returns the commands of irm for an executable that has the layer types.
// The order of each list decides what a shortened word means: see command.
func newRoot(types []ipcp.Type) *command {
	bootstrap := ipcpBootstrap(types)
	return &command{
		summary: "manage the IPCPs, layers and names of this system",
		absent:  foreign(),
		example: bootstrap.example + "\n" + bindProcess.example + "\n" + nameRegister.example,
		sub: []*command{
			{
				name:    "ipcp",
				summary: "manage IPCPs and the layers that they are in",
				example: bootstrap.example,
				absent:  lacking(types),
				sub:     slices.Concat([]*command{ipcpCreate, ipcpDestroy, bootstrap}, memberCommands(types), []*command{ipcpList, ipcpShow}),
			},
			{
				name:    "bind",
				summary: "say who accepts flows for a name",
				example: bindProcess.example,
				sub:     []*command{bindProgram, bindProcess, bindIPCP},
			},
			{
				name:    "unbind",
				summary: "take back what bind said",
				example: unbindProcess.example,
				sub:     []*command{unbindProgram, unbindProcess, unbindIPCP},
			},
			{
				name:    "name",
				summary: "manage names and where they are known",
				example: nameRegister.example,
				sub:     []*command{nameCreate, nameDestroy, nameRegister, nameUnregister, nameList, nameShow},
			},
			status,
			{
				name:    "flow",
				summary: "see the flows of this system",
				example: flowList.example,
				sub:     []*command{flowList, flowShow},
			},
			{
				name:    "process",
				summary: "see the processes that use flows",
				example: processList.example,
				sub:     []*command{processList, processShow},
			},
			watch,
			top,
			graphCommand(types),
			{
				name:    "config",
				summary: "write the config file",
				example: "irm config export",
				sub:     []*command{configExport(types)},
			},
			{
				name:    "log",
				summary: "change what is logged",
				example: logLevel.example,
				sub:     []*command{logLevel},
			},
		},
	}
}
