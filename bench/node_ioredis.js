// The decision in Node: one GET with ioredis' own batching, one JSON record, nothing written.
"use strict";

const http = require("http");
const Redis = require("ioredis");

const [port, url] = process.argv.slice(2);
const client = new Redis(url, { enableAutoPipelining: true });

async function check(request, response) {
  const sid = /(?:^|; *)sid=([^;]*)/.exec(request.headers.cookie || "");
  const record = sid && (await client.get("naive:" + sid[1]));
  const head = record ? { "X-Auth-User": JSON.parse(record).user } : {};
  response.writeHead(record ? 200 : 401, { ...head, "Content-Length": 0 });
  response.end();
}

const server = http.createServer((request, response) => {
  check(request, response).catch(() => response.writeHead(503, { "Content-Length": 0 }).end());
});
server.keepAliveTimeout = 60000;
server.listen(Number(port), "127.0.0.1");
