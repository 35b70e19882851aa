/** The API while the service's state is damaged: it reports that the process is alive, and refuses all else with the reason. */
import type { RequestListener } from 'node:http';
import { ApiError, plainBody, problemBody } from './errors.js';

/** @param reason for a person, with the fix */
export function createRescueApi(reason: string): RequestListener {
  const refusal = new ApiError('state_damaged', reason);
  return (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://appliance');
    request.resume(); // drains the body, which is not needed
    const isAlive = pathname === '/healthz';
    const wantsProblem = request.headers.accept?.includes('application/problem+json') ?? false;
    const body = isAlive ? { alive: true } : wantsProblem ? problemBody(refusal) : plainBody(refusal);
    response.writeHead(isAlive ? 200 : refusal.status, {
      'Content-Type': wantsProblem && !isAlive ? 'application/problem+json' : 'application/json',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(JSON.stringify(body));
  };
}
