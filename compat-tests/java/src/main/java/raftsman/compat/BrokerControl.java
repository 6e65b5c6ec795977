package raftsman.compat;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Ends the broker under test and starts it again; only where the runner started it. */
final class BrokerControl {
    private static final String URL = System.getenv("BROKER_CONTROL");

    private BrokerControl() {}

    /**
     * Has it ended with SIGTERM ("stop") or SIGKILL ("kill"), started ("start"), or both ("restart?how=stop",
     * "restart?how=kill"); returns when that is done.
     */
    static void ask(String what) throws Exception {
        Checks.that(URL != null, "BROKER_CONTROL is not set: this broker can't be ended");
        HttpRequest request = HttpRequest.newBuilder(URI.create(URL + "/" + what))
                .POST(HttpRequest.BodyPublishers.noBody())
                .build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        Checks.same(200, answer.statusCode(), what + " of the broker: " + answer.body());
    }
}
