import java.io.BufferedReader;
import java.io.File;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.logging.Level;
import java.util.logging.Logger;

import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpSession;

import org.apache.catalina.Session;
import org.apache.catalina.tribes.Member;
import org.apache.tomcat.util.json.JSONFilter;
import org.apache.tomcat.util.json.JSONParser;

/**
 * A member of a Tomcat cluster that understands what `hotspare member` does: one line of JSON for each request on standard
 * input and one for each reply, in order. So one driver asks both.
 *
 * Sessions are changed by requests (see {@link Requests}) and looked at beside them, in the manager, because a request
 * would count as an access. The member ends, as in a crash, when standard input does.
 */
public final class Peer {
    /** How often a wait looks. */
    private static final long LOOK_MS = 2;
    private static final String NUMBER = "number";
    private static final String VALUE = "value";

    private final Requests requests;
    /** Requests begun and not yet ended: what their servlets wait for, and where they say how they ended. */
    private final Map<Long, Held> held = new HashMap<>();
    private long handles = 0;
    private Load load = null;
    private volatile long commits = 0;

    private record Held(CompletableFuture<Map<String, Object>> ask, CompletableFuture<Map<String, Object>> reply) {
    }

    private Peer(Requests requests) {
        this.requests = requests;
    }

    public static void main(String[] args) {
        try {
            serve(args);
        } catch (Throwable e) {
            e.printStackTrace();
        }
        Runtime.getRuntime().halt(1);
    }

    private static void serve(String[] args) throws Exception {
        PrintStream out = System.out;
        // What happens is told by checks; warnings about it would stand between them.
        Logger.getLogger("").setLevel(Level.parse(System.getProperty("peer.log", "OFF")));
        BlockingQueue<String> lines = new LinkedBlockingQueue<>();
        Thread input = new Thread(() -> read(lines), "peer-in");
        input.setDaemon(true);
        input.start();
        Peer peer = new Peer(new Requests(new File(args[0]), new File(args[1])));
        Member local = peer.requests.cluster.getLocalMember();
        Map<String, Object> ready = new TreeMap<>();
        ready.put("event", "ready");
        ready.put("id", id(local));
        ready.put("address", System.getProperty("peer.address") + ":" + local.getPort());
        out.println(json(ready));
        while (true) {
            out.println(json(peer.play(lines.take())));
        }
    }

    private static void read(BlockingQueue<String> lines) {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                lines.add(line);
            }
        } catch (Exception e) {
            // It ends all the same.
        }
        Runtime.getRuntime().halt(0);
    }

    private Map<String, Object> play(String line) {
        Map<String, Object> reply = new TreeMap<>();
        try {
            JSONParser parser = new JSONParser(line);
            parser.setNativeNumbers(true);
            Map<String, Object> ask = parser.parseObject();
            reply.put("ok", true);
            play(ask, reply);
        } catch (Exception e) {
            reply.put("ok", false);
            reply.putIfAbsent("error", String.valueOf(e));
        }
        return reply;
    }

    private void play(Map<String, Object> ask, Map<String, Object> reply) throws Exception {
        switch (text(ask, "do")) {
            case "request" -> request(ask, reply);
            case "begin" -> reply.put("handle", begin(text(ask, "id")));
            case "end" -> {
                Held request = held.remove(number(ask, "handle", 0));
                request.ask.complete(ask);
                reply.putAll(request.reply.get());
            }
            case "get" -> session(text(ask, "id"), reply);
            case "view" -> reply.put("members", view());
            case "stats" -> reply.putAll(stats());
            case "wait_view" -> await(ask, reply, () -> {
                List<String> view = view();
                boolean holds = number(ask, "members", view.size()) == view.size()
                        && (ask.get("with") == null || view.contains(ask.get("with")))
                        && (ask.get("without") == null || !view.contains(ask.get("without")));
                return holds ? null : view;
            });
            case "wait_session" -> await(ask, reply, () -> {
                Map<String, Object> seen = new TreeMap<>();
                session(text(ask, "id"), seen);
                if (Boolean.TRUE.equals(ask.get("absent"))) {
                    return Boolean.TRUE.equals(seen.get("exists")) ? seen : null;
                }
                Map<?, ?> attributes = (Map<?, ?>) seen.get("attributes");
                for (Map.Entry<String, Object> wanted : map(ask, "attributes").entrySet()) {
                    if (!wanted.getValue().equals(attributes.get(wanted.getKey()))) {
                        return seen;
                    }
                }
                return Boolean.TRUE.equals(seen.get("exists")) ? null : seen;
            });
            case "wait_stat" -> await(ask, reply, () -> {
                long value = stats().get(text(ask, "name"));
                return value >= number(ask, "at_least", 0) ? null : value;
            });
            case "fill" -> {
                for (long n = 0; n < number(ask, "count", 1); n++) {
                    String id = text(ask, "prefix") + "-" + n;
                    requests.serve(id, request -> request.getSession(true).setAttribute(VALUE, filling(id, ask)));
                }
                reply.put("incomplete", 0);
            }
            case "check_fill" -> {
                long missing = 0;
                long wrong = 0;
                for (long n = 0; n < number(ask, "count", 1); n++) {
                    String id = text(ask, "prefix") + "-" + n;
                    Object value = attribute(id, VALUE);
                    missing += value == null ? 1 : 0;
                    wrong += value != null && !value.equals(filling(id, ask)) ? 1 : 0;
                }
                reply.put("missing", missing);
                reply.put("wrong", wrong);
            }
            case "load_start" -> load = new Load(ask);
            case "load_stop" -> {
                load.stop(reply);
                load = null;
            }
            case "check_load" -> {
                List<Object> missing = new ArrayList<>();
                List<Object> behind = new ArrayList<>();
                for (Map.Entry<String, Object> wanted : map(ask, "at_least").entrySet()) {
                    Object value = attribute(wanted.getKey(), NUMBER);
                    if (value == null) {
                        missing.add(wanted.getKey());
                    } else if (Long.parseLong((String) value) < ((Number) wanted.getValue()).longValue()) {
                        behind.add(List.of(wanted.getKey(), Long.parseLong((String) value), wanted.getValue()));
                    }
                }
                reply.put("missing", missing);
                reply.put("behind", behind);
            }
            default -> throw new IllegalArgumentException("no such request: " + ask.get("do"));
        }
    }

    /** A whole request; how it ended and what its caller waited. */
    private void request(Map<String, Object> ask, Map<String, Object> reply) throws Exception {
        long start = System.nanoTime();
        requests.serve(text(ask, "id"), request -> change(request, ask, reply));
        reply.put("took_us", (System.nanoTime() - start) / 1000);
    }

    /** A request whose servlet has read the session and waits. */
    private long begin(String id) throws Exception {
        Held request = new Held(new CompletableFuture<>(), new CompletableFuture<>());
        CountDownLatch begun = new CountDownLatch(1);
        Thread thread = new Thread(() -> {
            Map<String, Object> reply = new TreeMap<>();
            try {
                requests.serve(id, servlet -> {
                    HttpSession session = servlet.getSession(false);
                    begun.countDown();
                    change(session, request.ask.join(), reply);
                });
                request.reply.complete(reply);
            } catch (Exception e) {
                request.reply.completeExceptionally(e);
            } finally {
                begun.countDown();
            }
        }, "peer-held");
        thread.setDaemon(true);
        thread.start();
        begun.await();
        held.put(++handles, request);
        return handles;
    }

    private static void change(HttpServletRequest request, Map<String, Object> ask, Map<String, Object> reply) {
        change(request.getSession(Boolean.TRUE.equals(ask.get("create"))), ask, reply);
    }

    private static void change(HttpSession session, Map<String, Object> ask, Map<String, Object> reply) {
        reply.put("status", "ended");
        if (session == null) {
            return;
        }
        try {
            map(ask, "set").forEach(session::setAttribute);
            if (Boolean.TRUE.equals(ask.get("invalidate"))) {
                session.invalidate();
            }
            reply.put("status", "answered");
        } catch (IllegalStateException ended) {
            // What the application gets for a session that has been invalidated.
        }
    }

    /** A session as this member's manager holds it. */
    private void session(String id, Map<String, Object> seen) throws Exception {
        Session session = requests.manager.findSession(id);
        boolean exists = session != null && session.isValid();
        Map<String, Object> attributes = new TreeMap<>();
        if (exists) {
            HttpSession held = session.getSession();
            for (String name : Collections.list(held.getAttributeNames())) {
                attributes.put(name, held.getAttribute(name));
            }
        }
        seen.put("exists", exists);
        seen.put("attributes", attributes);
    }

    private Object attribute(String id, String name) throws Exception {
        Session session = requests.manager.findSession(id);
        return session != null && session.isValid() ? session.getSession().getAttribute(name) : null;
    }

    private List<String> view() {
        List<String> view = new ArrayList<>();
        view.add(id(requests.cluster.getLocalMember()));
        for (Member member : requests.cluster.getMembers()) {
            view.add(id(member));
        }
        return view;
    }

    private static String id(Member member) {
        return HexFormat.of().formatHex(member.getUniqueId());
    }

    private Map<String, Long> stats() {
        Map<String, Long> stats = new TreeMap<>();
        stats.put("commits", commits);
        stats.put("members", (long) view().size());
        stats.put("sessions", (long) requests.manager.getActiveSessions());
        stats.put("state_requests", requests.manager.getCounterReceive_EVT_GET_ALL_SESSIONS());
        return stats;
    }

    private interface Look {
        /** Null when it holds, else what was seen. */
        Object seen() throws Exception;
    }

    private static void await(Map<String, Object> ask, Map<String, Object> reply, Look look) throws Exception {
        long until = System.nanoTime() + number(ask, "within_ms", 10_000) * 1_000_000;
        for (Object seen = look.seen(); seen != null; seen = look.seen()) {
            if (System.nanoTime() >= until) {
                reply.put("seen", seen);
                reply.put("error", "not in time");
                throw new IllegalStateException("not in time");
            }
            Thread.sleep(LOOK_MS);
        }
    }

    /** Threads that count up in sessions of their own and log what was answered. */
    private final class Load {
        private final List<Thread> threads = new ArrayList<>();
        private final Map<String, Object> last = Collections.synchronizedMap(new TreeMap<>());
        private volatile boolean stopped = false;
        private volatile long errors = 0;

        Load(Map<String, Object> plan) throws Exception {
            String ballast = "x".repeat((int) number(plan, "size", 64));
            for (long index = 0; index < number(plan, "threads", 1); index++) {
                String prefix = text(plan, "prefix") + "-" + index + "-";
                FileOutputStream log =
                        plan.get("log") == null ? null : new FileOutputStream(text(plan, "log"), true);
                long sessions = number(plan, "sessions", 16);
                Thread thread = new Thread(() -> run(prefix, sessions, ballast, log), "peer-load");
                threads.add(thread);
                thread.start();
            }
        }

        private void run(String prefix, long sessions, String ballast, FileOutputStream log) {
            for (long number = 1; !stopped; number++) {
                for (long n = 0; n < sessions && !stopped; n++) {
                    String id = prefix + n;
                    String value = Long.toString(number);
                    try {
                        requests.serve(id, request -> {
                            HttpSession session = request.getSession(true);
                            session.setAttribute(NUMBER, value);
                            session.setAttribute("ballast", ballast);
                        });
                        if (log != null) {
                            log.write((id + " " + number + "\n").getBytes(StandardCharsets.UTF_8));
                        }
                        last.put(id, number);
                    } catch (Exception e) {
                        errors++;
                    }
                    synchronized (Peer.this) {
                        commits++;
                    }
                }
            }
        }

        void stop(Map<String, Object> reply) throws InterruptedException {
            stopped = true;
            for (Thread thread : threads) {
                thread.join();
            }
            reply.put("errors", errors);
            reply.put("last", last);
        }
    }

    private static String filling(String id, Map<String, Object> ask) {
        int size = (int) number(ask, "size", 64);
        return id.repeat(size / id.length() + 1).substring(0, size);
    }

    private static String text(Map<String, Object> ask, String name) {
        if (ask.get(name) instanceof String text) {
            return text;
        }
        throw new IllegalArgumentException(name + " is missing");
    }

    private static long number(Map<String, Object> ask, String name, long otherwise) {
        return ask.get(name) instanceof Number number ? number.longValue() : otherwise;
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Map<String, Object> ask, String name) {
        return ask.get(name) instanceof Map ? (Map<String, Object>) ask.get(name) : Map.of();
    }

    private static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            List<String> fields = new ArrayList<>();
            map.forEach((name, field) -> fields.add(json(name) + ":" + json(field)));
            return "{" + String.join(",", fields) + "}";
        }
        if (value instanceof List<?> list) {
            return "[" + String.join(",", list.stream().map(Peer::json).toList()) + "]";
        }
        return value instanceof String text ? '"' + JSONFilter.escape(text) + '"' : String.valueOf(value);
    }
}
