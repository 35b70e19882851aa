/** What a client needs beside jobs: containers, the machine, plugins, preferences, health. */
import { arch, cpus, hostname, machine } from 'node:os';
import { type Call, jsonBody, type Route } from './call.js';
import type { ApiDeps } from './deps.js';
import { ApiError, wrong } from './errors.js';
import { openApi } from './openapi.js';

// More would only make the disks of a NAS seek against each other.
const mostJobs = 16;

async function system(deps: ApiDeps): Promise<object> {
  const cores = cpus();
  const engines = Object.entries(await deps.engineVersions());
  const versions = Object.fromEntries(engines.map(([id, version]) => [`${id}_version`, version]));
  return {
    cpu_core: cores.length,
    cpu_thread: cores.length,
    hostname: hostname(),
    machine: machine(),
    processor: cores[0]?.model.trim() ?? arch(),
    version: { docker_version: '', lxc_version: '', ...versions, web: '' },
  };
}

async function setPreferences(deps: ApiDeps, call: Call): Promise<object> {
  const { backup_concurrent, ...unknown } = await jsonBody(call);
  const [extra] = Object.keys(unknown);
  if (extra !== undefined) throw wrong(`/${extra}`, 'is not a known key');
  const fits = typeof backup_concurrent === 'number' && Number.isInteger(backup_concurrent);
  if (!fits || backup_concurrent < 1 || backup_concurrent > mostJobs) throw wrong('/backup_concurrent', `must be 1 to ${mostJobs}`);
  await deps.store.preferences.put({ backup_concurrent });
  return { backup_concurrent };
}

async function ready(deps: ApiDeps): Promise<object> {
  await deps.store.preferences.get().catch(() => {
    throw new ApiError('unavailable', 'the store does not answer');
  });
  return { ready: true };
}

function containers(deps: ApiDeps, call: Call): Promise<object[]> {
  const type = call.query.get('type');
  return type === null ? deps.listContainers() : deps.listContainers(type);
}

export function aroundRoutes(deps: ApiDeps, all: () => readonly Route[]): Route[] {
  return [
    { method: 'get', path: '/container/', access: 'user', summary: 'Containers of all runtimes', handle: (c) => containers(deps, c) },
    { method: 'get', path: '/system/', access: 'user', summary: 'The machine', handle: () => system(deps) },
    { method: 'get', path: '/plugin/', access: 'user', summary: 'Plugins, good and refused', handle: () => deps.plugins.reports },
    { method: 'get', path: '/preference/', access: 'user', summary: 'Preferences', handle: () => deps.store.preferences.get() },
    { method: 'put', path: '/preference/', access: 'admin', summary: 'Change preferences', handle: (c) => setPreferences(deps, c) },
    { method: 'get', path: '/openapi.json', access: 'open', summary: 'This description', handle: () => openApi(all()) },
    { method: 'get', path: '//healthz', access: 'open', summary: 'The process answers', handle: () => ({ alive: true }) },
    { method: 'get', path: '//readyz', access: 'open', summary: 'Requests can be served', handle: () => ready(deps) },
  ];
}
