import java.io.File;
import java.io.IOException;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;

import org.apache.catalina.Engine;
import org.apache.catalina.Host;
import org.apache.catalina.Wrapper;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.core.StandardContext;
import org.apache.catalina.ha.session.DeltaManager;
import org.apache.catalina.ha.tcp.SimpleTcpCluster;
import org.apache.catalina.startup.CatalinaBaseConfigurationSource;
import org.apache.catalina.startup.Tomcat;

/**
 * A Tomcat with one distributable web application, and the requests that it is given.
 *
 * There is no connector: a request enters where the connector would hand it in, at the engine's first valve, and from
 * there runs through Tomcat's own valves, ReplicationValve among them, to the application's servlet. It has been answered
 * when the engine's pipeline returns, so after ReplicationValve has sent.
 */
final class Requests {
    /** What a request does in the servlet. */
    interface Work {
        void run(HttpServletRequest request) throws IOException;
    }

    private static final String WORK = "peer.work";

    final SimpleTcpCluster cluster;
    final DeltaManager manager;
    private final Engine engine;
    private final Host host;
    private final StandardContext context;
    private final Wrapper wrapper;
    private final Connector connector = new Connector();
    private final ThreadLocal<Request> request = ThreadLocal.withInitial(this::make);

    /** Starts it; returns when the application serves, so after the state transfer. */
    Requests(File base, File serverXml) throws Exception {
        // Where it makes its directories.
        System.setProperty("catalina.home", base.getPath());
        System.setProperty("catalina.base", base.getPath());
        Tomcat tomcat = new Tomcat();
        tomcat.init(new CatalinaBaseConfigurationSource(base, serverXml.getPath()));
        engine = tomcat.getEngine();
        host = tomcat.getHost();
        cluster = (SimpleTcpCluster) engine.getCluster();
        context = (StandardContext) tomcat.addContext(host, "", base.getPath());
        context.setDistributable(true);
        // A session gets the id that its cookie names: the test chooses ids.
        context.setSessionCookiePath("/");
        context.setValidateClientProvidedNewSessionId(false);
        wrapper = Tomcat.addServlet(context, "work", new WorkServlet());
        connector.setService(tomcat.getService());
        tomcat.start();
        if (!context.getState().isAvailable()) {
            throw new IllegalStateException("the application did not start");
        }
        manager = (DeltaManager) context.getManager();
    }

    /** A whole request with this session cookie. */
    void serve(String id, Work work) throws IOException, ServletException {
        Request request = this.request.get();
        request.getMappingData().host = host;
        request.getMappingData().context = context;
        request.getMappingData().wrapper = wrapper;
        request.getMappingData().requestPath.setString("/");
        request.getMappingData().wrapperPath.setString("/");
        request.getCoyoteRequest().decodedURI().setString("/");
        request.setRequestedSessionId(id);
        request.setRequestedSessionCookie(true);
        request.setAttribute(WORK, work);
        try {
            engine.getPipeline().getFirst().invoke(request, request.getResponse());
            Object failed = request.getAttribute("jakarta.servlet.error.exception");
            if (failed != null) {
                throw new ServletException((Throwable) failed);
            }
        } finally {
            // As the connector does; it ends the request's access to the session.
            Response response = request.getResponse();
            request.recycle();
            response.recycle();
            request.getCoyoteRequest().recycle();
            response.getCoyoteResponse().recycle();
        }
    }

    private Request make() {
        org.apache.coyote.Request in = new org.apache.coyote.Request();
        org.apache.coyote.Response out = new org.apache.coyote.Response();
        in.setResponse(out);
        Request request = connector.createRequest();
        Response response = connector.createResponse();
        request.setCoyoteRequest(in);
        response.setCoyoteResponse(out);
        request.setResponse(response);
        response.setRequest(request);
        return request;
    }

    private static final class WorkServlet extends HttpServlet {
        private static final long serialVersionUID = 1L;

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            ((Work) request.getAttribute(WORK)).run(request);
        }
    }
}
