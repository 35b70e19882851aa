/** Containers, the machine, plugins, preferences and health. */
import { arch, cpus, hostname, machine } from 'node:os';
import { parse } from '../../schemas.js';
import type { ApiDeps } from '../deps.js';
import { ApiError } from '../errors.js';
import { openApi } from '../openapi.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, jsonBody } from '../request.js';
import { listOf, one, type Route, route, rowsOf } from '../route.js';

const rows = rowsOf({
  getDescription: { access: 'open', tag: 'service', summary: 'Get this description', answer: one('description') },
  checkHealth: { access: 'open', tag: 'service', summary: 'Check that the process answers', answer: one('alive') },
  checkReady: {
    access: 'open',
    tag: 'service',
    summary: 'Check that requests can be served',
    answer: one('ready'),
    errors: { 503: 'state_damaged: the state must be repaired; until then all but /healthz answer this' },
  },
  listContainers: { summary: 'List containers of all runtimes', access: 'user', query: ['type'], answer: listOf('container') },
  getContainer: {
    summary: 'Describe a container, and the big files that would make a pause of it long',
    access: 'user',
    answer: one('container-view'),
    errors: { 404: 'not_found: there is no such runtime or container, or one of its volumes is gone' },
  },
  getSystem: { summary: 'Describe the machine', access: 'user', answer: one('machine') },
  listPlugins: { summary: 'List loaded and refused plugins', access: 'user', answer: listOf('plugin-report') },
  getPreferences: { summary: 'Get preferences', access: 'user', answer: one('preference') },
  setPreferences: { summary: 'Change preferences', access: 'admin', body: { schema: 'preference' }, answer: one('preference') },
});

async function system(deps: ApiDeps): Promise<Reply> {
  const cores = cpus();
  const engines = Object.entries(await deps.engineVersions());
  const versions = Object.fromEntries(engines.map(([id, version]) => [`${id}_version`, version]));
  return json({
    cpu_core: cores.length,
    cpu_thread: cores.length,
    hostname: hostname(),
    machine: machine(),
    processor: cores[0]?.model.trim() ?? arch(),
    version: { docker_version: '', lxc_version: '', ...versions, web: '' },
  });
}

async function setPreferences(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const preferences = parse('preference', await jsonBody(request));
  await deps.store.preferences.put(preferences);
  deps.jobs.limitChanged();
  return json(preferences);
}

async function ready(deps: ApiDeps): Promise<Reply> {
  await deps.store.preferences.get().catch(() => {
    throw new ApiError('unavailable', 'the store does not answer');
  });
  return json({ ready: true });
}

async function containers(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const type = request.query.type;
  return json(await (type === undefined ? deps.listContainers() : deps.listContainers(type)));
}

/** Routes about the process and this API. They reveal nothing of the stored data. */
function serviceRoutes(deps: ApiDeps, all: () => readonly Route[]): Route[] {
  let description: object | undefined; // made once, since it is read from many files and open to all
  return [
    route('get', '/openapi.json', rows.getDescription, () => {
      description ??= openApi(all());
      return json(description);
    }),
    route('get', '//healthz', rows.checkHealth, () => json({ alive: true })),
    route('get', '//readyz', rows.checkReady, () => ready(deps)),
  ];
}

export function systemRoutes(deps: ApiDeps, all: () => readonly Route[]): Route[] {
  return [
    route('get', '/container/', rows.listContainers, (c) => containers(deps, c)),
    route('get', '/container/:type/:container', rows.getContainer, async ({ params, gone }) =>
      json(await deps.viewContainer({ type: params.type ?? '', id: params.container ?? '', gone })),
    ),
    route('get', '/system/', rows.getSystem, () => system(deps)),
    route('get', '/plugin/', rows.listPlugins, () => json(deps.plugins.reports)),
    route('get', '/preference/', rows.getPreferences, async () => json(await deps.store.preferences.get())),
    route('put', '/preference/', rows.setPreferences, (c) => setPreferences(deps, c)),
    ...serviceRoutes(deps, all),
  ];
}
