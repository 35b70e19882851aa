/** Rights over the host from a container's settings. Each field has a rule. A field without a rule is a right unless it is empty,
 *  so that fields of later engines, and other spellings, need consent too. */
import type { Grant } from '../../../../core/contract/index.js';
import { quote, showJson } from '../../../shared/grants.js';
import { type Fields, fields, isFields, text } from '../engine/json.js';

/** What this engine gives to an ordinary container. */
export interface EngineDefaults {
  /** Whether the container has a cgroup namespace of its own. */
  readonly privateCgroups: boolean;
  readonly logDriver: string;
  readonly runtime: string;
}

/** The values of a field that are rights. */
type Beyond = (value: unknown, engine: EngineDefaults) => readonly string[];

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  value === 0 ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isFields(value) && Object.keys(value).length === 0);

const showValue = (value: unknown): string => (typeof value === 'string' ? quote(value) : showJson(value));
const anything = (value: unknown): readonly string[] => (isEmpty(value) ? [] : [showValue(value)]);
const other =
  (ordinary: RegExp) =>
  (value: unknown): readonly string[] =>
    isEmpty(value) || (typeof value === 'string' && ordinary.test(value)) ? [] : [showValue(value)];
const each =
  (isOrdinary: (one: unknown) => boolean) =>
  (value: unknown): readonly string[] =>
    isEmpty(value) ? [] : (Array.isArray(value) ? value : [value]).filter((one) => !isOrdinary(one)).map(showValue);
const all = each(() => false);
const entries =
  (isOrdinary: (name: string) => boolean) =>
  (value: unknown): readonly string[] =>
    isFields(value)
      ? Object.entries(value).flatMap(([name, one]) => (isOrdinary(name) ? [] : [`${quote(name)} = ${showValue(one)}`]))
      : anything(value);

/** The capabilities that the engine gives to every container (moby, oci/caps/defaults.go). */
const ordinaryCapability =
  /^(CAP_)?(AUDIT_WRITE|CHOWN|DAC_OVERRIDE|FOWNER|FSETID|KILL|MKNOD|NET_BIND_SERVICE|NET_RAW|SETFCAP|SETGID|SETPCAP|SETUID|SYS_CHROOT)$/i;
/** Resource limits, without those by which a container could take processor time from all others. */
const ordinaryLimit = /^(as|core|cpu|data|fsize|locks|memlock|msgqueue|nofile|nproc|rss|sigpending|stack)$/;
const logOptions = /^(compress|env|env-regex|labels|labels-regex|max-buffer-size|max-file|max-size|mode|tag)$/;
/** Paths that the engine hides from every container (moby, oci/defaults.go); newer engines hide more. */
const masked = ['acpi', 'kcore', 'keys', 'latency_stats', 'timer_list', 'timer_stats', 'sched_debug', 'scsi'].map((one) => `/proc/${one}`);
const readOnly = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((one) => `/proc/${one}`);

/** The wanted paths that the field lacks. Without the field the engine uses its own list: no right. */
const holding =
  (wanted: readonly string[]) =>
  (value: unknown): readonly string[] =>
    value === undefined || value === null ? [] : wanted.filter((path) => !(Array.isArray(value) && value.includes(path)));

const logRights: Beyond = (value, engine) => {
  const { Type, Config, ...rest } = fields(value);
  const isOrdinary = ['', 'json-file', 'local', 'none', engine.logDriver].includes(text(Type));
  return [
    ...(isOrdinary ? [] : [`driver ${showValue(Type)}`]),
    ...entries((name) => logOptions.test(name))(Config),
    ...entries(() => false)(rest),
  ];
};

const hostRules: Readonly<Record<string, readonly [code: string, Beyond]>> = {
  Annotations: ['engine_option', anything],
  CapAdd: ['capability', each((one) => typeof one === 'string' && ordinaryCapability.test(one))],
  Cgroup: ['host_namespace', anything],
  CgroupParent: ['cgroup', anything],
  CgroupnsMode: ['host_namespace', (value, engine) => (value === 'host' && !engine.privateCgroups ? [] : other(/^private$/)(value))],
  CpuRealtimePeriod: ['realtime', anything],
  CpuRealtimeRuntime: ['realtime', anything],
  DeviceCgroupRules: ['device', all],
  DeviceRequests: ['device', all],
  Devices: ['device', all],
  IpcMode: ['host_namespace', other(/^(none|private|shareable)$/)],
  Isolation: ['engine_option', other(/^default$/)],
  Links: ['other_container', all],
  LogConfig: ['log', logRights],
  MaskedPaths: ['unmasked_path', holding([...masked, '/sys/firmware'])],
  NetworkMode: ['host_namespace', other(/^(?!host$)[a-zA-Z0-9][a-zA-Z0-9_.-]*$/)],
  OomKillDisable: ['memory', anything],
  OomScoreAdj: ['memory', (value) => (typeof value === 'number' && value >= 0 ? [] : anything(value))],
  PidMode: ['host_namespace', anything],
  Privileged: ['privileged', anything],
  ReadonlyPaths: ['unmasked_path', holding(readOnly)],
  Runtime: ['engine_option', (value, engine) => (value === engine.runtime ? [] : other(/^(runc|io\.containerd\.runc\.v2)$/)(value))],
  SecurityOpt: ['security_option', each((one) => typeof one === 'string' && /^no-new-privileges([:=]true)?$/.test(one))],
  StorageOpt: ['engine_option', entries((name) => name === 'size')],
  Sysctls: ['kernel_setting', entries(() => false)],
  UTSMode: ['host_namespace', anything],
  Ulimits: ['limit', each((one) => ordinaryLimit.test(text(fields(one).Name)))],
  UsernsMode: ['host_namespace', anything],
  VolumeDriver: ['volume_option', other(/^local$/)],
  VolumesFrom: ['other_container', all],
};

/** Limits, names, ports and settings with effect inside only. grants.ts judges Binds and Mounts. */
const harmless = new Set([
  ...['AutoRemove', 'Binds', 'BlkioDeviceReadBps', 'BlkioDeviceReadIOps', 'BlkioDeviceWriteBps', 'BlkioDeviceWriteIOps', 'BlkioWeight'],
  ...['BlkioWeightDevice', 'CapDrop', 'ConsoleSize', 'ContainerIDFile', 'CpuCount', 'CpuPercent', 'CpuPeriod', 'CpuQuota', 'CpuShares'],
  ...['CpusetCpus', 'CpusetMems', 'Dns', 'DnsOptions', 'DnsSearch', 'ExtraHosts', 'GroupAdd', 'IOMaximumBandwidth', 'IOMaximumIOps'],
  ...['Init', 'KernelMemory', 'KernelMemoryTCP', 'Memory', 'MemoryReservation', 'MemorySwap', 'MemorySwappiness', 'Mounts', 'NanoCpus'],
  ...['PidsLimit', 'PortBindings', 'PublishAllPorts', 'ReadonlyRootfs', 'RestartPolicy', 'ShmSize', 'Tmpfs'],
]);

const inside = new Set([
  ...['ArgsEscaped', 'AttachStderr', 'AttachStdin', 'AttachStdout', 'Cmd', 'Domainname', 'Entrypoint', 'Env', 'ExposedPorts'],
  ...['Healthcheck', 'Hostname', 'Image', 'Labels', 'MacAddress', 'NetworkDisabled', 'OnBuild', 'OpenStdin', 'Shell', 'StdinOnce'],
  ...['StopSignal', 'StopTimeout', 'Tty', 'User', 'Volumes', 'WorkingDir'],
]);

/** Fields of `found` that are neither known nor empty, as rights. */
export function unknownFields(where: string, found: Fields, known: (name: string) => boolean): Grant[] {
  return Object.entries(found).flatMap(([name, value]) =>
    known(name) || isEmpty(value) ? [] : [{ code: 'unknown_option', what: `${where}.${quote(name)} = ${showValue(value)}` }],
  );
}

/** Rights that a create request asks for, without mounts and networks. */
export function settingRights(body: Fields, engine: EngineDefaults): Grant[] {
  const { HostConfig, NetworkingConfig: _networks, ...config } = body;
  const host = fields(HostConfig);
  const ruled = Object.entries(hostRules).flatMap(([name, [code, beyond]]) =>
    beyond(host[name], engine).map((what) => ({ code, what: `${name} ${what}` })),
  );
  return [
    ...ruled,
    ...unknownFields('HostConfig', host, (name) => Object.hasOwn(hostRules, name) || harmless.has(name)),
    ...unknownFields('Config', config, (name) => inside.has(name)),
  ];
}
