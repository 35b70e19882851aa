/** Updates of the firmware. */
import { parse } from '../../schemas.js';
import type { ApiDeps, Updates } from '../deps.js';
import { invalidField } from '../errors.js';
import { type ApiRequest, type Route, route, toBody } from '../request.js';

/** Content-Length; undefined when the body is sent in chunks. @throws ValidationError for one of nothing */
function lengthOf({ length }: ApiRequest): number | undefined {
  if (length === 0) throw invalidField('', 'must be the bundle itself, as application/octet-stream');
  return length;
}

/** A body that may be left out. */
async function wishes<Name extends 'update-install' | 'update-reboot'>(request: ApiRequest, schema: Name) {
  const text = await request.text();
  const force = request.query.get('force') === '1' || request.query.get('force') === 'true';
  const body = parse(schema, text.trim() === '' ? {} : toBody(text));
  return { ...body, force: body.force || force };
}

async function install(updates: Updates, request: ApiRequest): Promise<object> {
  await updates.install(await wishes(request, 'update-install'));
  return updates.status();
}

async function restart(updates: Updates, request: ApiRequest): Promise<object> {
  await updates.restart(await wishes(request, 'update-reboot'));
  return { rebooting: true };
}

async function discard(updates: Updates): Promise<object> {
  await updates.discard();
  return updates.status();
}

/** None when the appliance is not updated by this service. */
export function updateRoutes({ updates }: ApiDeps): Route[] {
  if (updates === undefined) return [];
  const receive = (request: ApiRequest) => updates.receive(() => request.stream(), lengthOf(request), request.gone);
  return [
    route('get', '/update/', 'admin', 'The slots, and where an update stands', () => updates.status()),
    route('put', '/update/bundle', 'admin', 'Send a bundle', receive, { binary: true }),
    route('delete', '/update/bundle', 'admin', 'Remove the bundle that was sent', () => discard(updates)),
    route('post', '/update/install', 'admin', 'Install the bundle to the other slot', (c) => install(updates, c), {
      schema: 'update-install',
      status: 202,
    }),
    route('post', '/update/reboot', 'admin', 'Restart the machine', (c) => restart(updates, c), { schema: 'update-reboot', status: 202 }),
  ];
}
