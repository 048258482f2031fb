// A tus server with its file store: node tus.js FOLDER PORT
const http = require("http");
const { Server } = require("@tus/server");
const { FileStore } = require("@tus/file-store");

const [, , folder, port] = process.argv;
const server = new Server({ path: "/files", datastore: new FileStore({ directory: folder }) });
http.createServer((request, response) => server.handle(request, response)).listen(Number(port), "127.0.0.1");
