/** What a client needs beside jobs: containers, the machine, plugins, preferences, health. */
import { arch, cpus, hostname, machine } from 'node:os';
import type { ApiDeps } from '../deps.js';
import { ApiError, invalidField } from '../errors.js';
import { openApi } from '../openapi.js';
import { type ApiRequest, jsonBody, type Route, route } from '../request.js';

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

async function setPreferences(deps: ApiDeps, request: ApiRequest): Promise<object> {
  const { backup_concurrent, ...unknown } = await jsonBody(request);
  const [extra] = Object.keys(unknown);
  if (extra !== undefined) throw invalidField(`/${extra.replaceAll('~', '~0').replaceAll('/', '~1')}`, 'is not a known key');
  const fits = typeof backup_concurrent === 'number' && Number.isInteger(backup_concurrent);
  if (!fits || backup_concurrent < 1 || backup_concurrent > mostJobs) throw invalidField('/backup_concurrent', `must be 1 to ${mostJobs}`);
  await deps.store.preferences.put({ backup_concurrent });
  deps.jobs.limitChanged();
  return { backup_concurrent };
}

async function ready(deps: ApiDeps): Promise<object> {
  await deps.store.preferences.get().catch(() => {
    throw new ApiError('unavailable', 'the store does not answer');
  });
  return { ready: true };
}

function containers(deps: ApiDeps, request: ApiRequest): Promise<object[]> {
  const type = request.query.get('type');
  return type === null ? deps.listContainers() : deps.listContainers(type);
}

export function systemRoutes(deps: ApiDeps, all: () => readonly Route[]): Route[] {
  return [
    route('get', '/container/', 'user', 'Containers of all runtimes', (c) => containers(deps, c)),
    route('get', '/system/', 'user', 'The machine', () => system(deps)),
    route('get', '/plugin/', 'user', 'Plugins, good and refused', () => deps.plugins.reports),
    route('get', '/preference/', 'user', 'Preferences', () => deps.store.preferences.get()),
    route('put', '/preference/', 'admin', 'Change preferences', (c) => setPreferences(deps, c)),
    route('get', '/openapi.json', 'open', 'This description', () => openApi(all())),
    route('get', '//healthz', 'open', 'The process answers', () => ({ alive: true })),
    route('get', '//readyz', 'open', 'Requests can be served', () => ready(deps), {
      answers: { 503: 'state_damaged: the service waits until its state is mended, and answers so to all but /healthz' },
    }),
  ];
}
